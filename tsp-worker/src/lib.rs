//! HTTP callbacks on the worker framework.
