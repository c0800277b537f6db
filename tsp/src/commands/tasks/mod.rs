//! Commands on tasks, each one call of the API.

mod act;
mod attempts;
mod cancel;
mod list;
mod postpone;
mod subject;
mod submit;

pub(super) use act::{Act, Args as ActArgs};
pub(super) use attempts::Args as AttemptsArgs;
pub(super) use cancel::Args as CancelArgs;
pub(super) use list::Args as ListArgs;
pub(super) use postpone::Args as PostponeArgs;
pub(super) use submit::Args as SubmitArgs;
