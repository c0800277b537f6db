//! `POST …/pause`, `/resume`, `/run`, `/replay`, and how each operation on a task is served: the same by its id and by
//! its business key.

use std::sync::Arc;

use axum::extract::State;
use tsp_api::task::Task;
use tsp_api::task::change::NoFields;
use tsp_store::catalog::Scope;
use tsp_store::tasks::TaskCommand;

use crate::auth::Caller;
use crate::body::UnreadBody;
use crate::error::ApiResult;
use crate::path::Path;
use crate::state::WebState;

use super::change;
use super::subject::KeyPath;

/// The handlers of one operation: who may, what is sent and answered, how the body becomes a command, what is said of
/// what was done; then its name and path by id, and by business key where there is one. A handler's name is its
/// `operationId`.
macro_rules! operation {
    (
        $scope:ident, $body:tt => $answer:tt, $said:tt, $refused:tt,
        |$unread:ident, $state:ident| $command:expr, |$done:ident| $shown:expr;
        $(#[doc = $id_doc:tt])+ $by_id:ident $id_path:tt
        $(; $(#[doc = $key_doc:tt])+ $by_key:ident $key_path:tt)?
    ) => {
        $crate::tasks::operations::operation! {
            @handler [$($id_doc)+] $by_id "tasks" $id_path String change::by_id;
            ("id" = String, Path, description = "The task's id.");
            $scope $body $answer $said $refused $unread $state ($command) $done ($shown)
        }
        $($crate::tasks::operations::operation! {
            @handler [$($key_doc)+] $by_key "keys" $key_path KeyPath change::by_key;
            ("app" = String, Path, description = "The app."),
            ("config" = String, Path, description = "The config."),
            ("key" = String, Path, description = "The business key, percent-encoded.");
            $scope $body $answer $said $refused $unread $state ($command) $done ($shown)
        })?
    };
    (
        @handler [$($doc:tt)+] $name:ident $tag:tt $path:tt $subject:tt $change:path;
        $($param:tt),+;
        $scope:ident [$($body:tt)+] $answer:tt $said:tt $refused:tt
        $unread:ident $state:ident ($command:expr) $done:ident ($shown:expr)
    ) => {
        $(#[doc = $doc])+
        #[utoipa::path(
            post, path = $path, tag = $tag,
            params($($param),+),
            request_body = $($body)+,
            responses(
                (status = 200, description = $said, body = $answer),
                (status = 409, description = $refused),
            ),
        )]
        pub(super) async fn $name(
            State($state): State<Arc<WebState>>,
            caller: Caller,
            Path(subject): Path<$subject>,
            $unread: UnreadBody,
        ) -> ApiResult {
            let $done = $change(&$state, &caller, &subject, &[Scope::$scope], $command).await;
            $shown
        }
    };
}

pub(super) use operation;

operation! {
    Submit, [Option<NoFields>] => Task,
    "The task as it is now.", "Not in this state; the detail names it and what is allowed.",
    |body, state| body.asks::<NoFields, _>(TaskCommand::Pause), |done| done?.answer();
    /// Holds a task that waits; it keeps what is left of it.
    pause_task "/tasks/{id}/pause";
    /// Holds a task that waits; it keeps what is left of it. By business key: the open task, else 409.
    pause_key "/apps/{app}/configs/{config}/keys/{key}/pause"
}

operation! {
    Submit, [Option<NoFields>] => Task,
    "The task as it is now.", "Not in this state; the detail names it and what is allowed.",
    |body, state| body.asks::<NoFields, _>(TaskCommand::Resume), |done| done?.answer();
    /// Lets a held task go; it is due at once if its time has passed.
    resume_task "/tasks/{id}/resume";
    /// Lets a held task go; it is due at once if its time has passed. By business key: the open task, else 409.
    resume_key "/apps/{app}/configs/{config}/keys/{key}/resume"
}

operation! {
    Submit, [Option<NoFields>] => Task,
    "The task as it is now.", "Not in this state; the detail names it and what is allowed.",
    |body, state| body.asks::<NoFields, _>(TaskCommand::Run), |done| done?.answer();
    /// Makes a waiting task due now.
    run_task "/tasks/{id}/run";
    /// Makes a waiting task due now. By business key: the open task, else 409.
    run_key "/apps/{app}/configs/{config}/keys/{key}/run"
}

operation! {
    Manage, [Option<NoFields>] => Task,
    "The task as it is now.", "Not ended, or another open task holds its key.",
    |body, state| body.asks::<NoFields, _>(TaskCommand::Replay), |done| done?.answer();
    /// Runs an ended task again, under the same id.
    replay_task "/tasks/{id}/replay"
}
