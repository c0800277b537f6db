//! `POST …/postpone`: a new time, also an earlier one.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use tsp_api::task::Task;
use tsp_api::task::change::PostponeBody;
use tsp_core::Timestamp;
use tsp_store::catalog::Scope;
use tsp_store::tasks::TaskCommand;

use crate::auth::Caller;
use crate::body::{Json, UnreadBody};
use crate::error::{ApiResult, Finish};
use crate::path::Path;
use crate::state::WebState;

use super::change;
use super::operations::operation;
use super::subject::KeyPath;
use super::submit::choose_time;

operation! {
    Submit, [PostponeBody] => Task,
    "The task as it is now.", "Not in this state; the detail names it and what is allowed.",
    |body, state| read(body, state.now()), |done| done?.answer();
    /// Gives a waiting or held task a new time, also an earlier one.
    postpone_task "/tasks/{id}/postpone";
    /// Gives the open task of a business key a new time.
    postpone_key "/apps/{app}/configs/{config}/keys/{key}/postpone"
}

async fn read(body: UnreadBody, now: Timestamp) -> ApiResult<TaskCommand> {
    let Json { value, mut errors, .. } = body.json::<PostponeBody>().await?;
    let nothing_wrong = errors.is_empty();
    let at = choose_time(value.execute_at.map(Cow::Owned), value.delay.map(Cow::Owned), now, &mut errors);
    if at.is_none() && nothing_wrong && errors.is_empty() {
        errors.add("execute_at", "is missing; give `execute_at` or `delay`");
    }
    errors.finish()?;
    // Without an error there is a time.
    Ok(TaskCommand::Postpone { execute_at: at.unwrap_or(now) })
}
