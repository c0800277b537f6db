//! Real servers on free ports, with private data directories, that end with the process that started them.
