//! Connections and statements: the writer's thread, which commits in groups, and readers beside it.

pub(crate) mod command;
pub(crate) mod command_queue;
pub(crate) mod connect;
pub(crate) mod fault;
pub(crate) mod fold;
pub(crate) mod reader;
pub(crate) mod row;
pub(crate) mod session;
pub(crate) mod statements;
pub(crate) mod tx;
pub(crate) mod writer;
