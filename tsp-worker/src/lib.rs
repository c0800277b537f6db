//! HTTP callbacks on the worker framework.

pub mod http;
