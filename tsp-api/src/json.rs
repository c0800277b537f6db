//! JSON as text: what it says without what a parser makes of it.
//!
//! Payloads belong to their callers, so numbers keep their digits, strings their lone surrogates and arrays
//! their depth. Everything here goes over the text once, piece by piece, and nests in memory that it counts,
//! never on the stack.

mod digest;
mod duplicates;
mod members;
mod text;
mod tokens;
mod tree;

pub use digest::digest;
pub use duplicates::{duplicates, duplicates_below};
pub use members::{Member, depth, members};
pub use text::Text;
pub use tokens::{DEPTH_MAX, MalformedJson, Token, Tokens};
pub use tree::tree;

#[cfg(test)]
mod testing;
