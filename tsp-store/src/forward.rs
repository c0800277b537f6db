//! For stores around a store: methods that are the same call on the one inside.

use std::pin::Pin;

/// What an async method of the store traits returns.
pub type Answer<'f, T> = Pin<Box<dyn Future<Output = T> + Send + 'f>>;

/// Methods of the store traits as calls of the same name on a field, in an `impl` of their trait:
/// `forward!(inner: task search attempts);`. With `forward!(inner, by read: task search attempts);` the calls go through
/// a method of the caller's, `self.read("task", future)`, whose future owns what it needs; `inner` is an [`Arc`] then.
/// Whoever uses it has the types of their signatures in scope, as if it had written them.
///
/// [`Arc`]: std::sync::Arc
#[macro_export]
macro_rules! forward {
    ($($field:ident).+: $($method:ident)+) => { $crate::forward! { @all [$($field).+] $($method)+ } };
    ($field:ident, by $through:ident: $($method:ident)+) => {
        $crate::forward! { @all [$field by $through] $($method)+ }
    };
    (@all $on:tt $($method:ident)+) => { $($crate::forward! { @$method $on })+ };
    (@bulkheads $on:tt) => { $crate::forward! { @plain bulkheads $on () -> usize } };
    (@bulkhead $on:tt) => { $crate::forward! { @plain bulkhead $on (task: TaskId) -> usize } };
    (@fetch_scope $on:tt) => { $crate::forward! { @plain fetch_scope $on () -> FetchScope } };
    (@config_cache $on:tt) => { $crate::forward! { @plain config_cache $on () -> &Arc<ConfigCache> } };
    (@shards $on:tt) => { $crate::forward! { @plain shards $on () -> u16 } };
    (@submit $on:tt) => {
        $crate::forward! { @async submit $on []
            (batch: Vec<Submit>, now: Timestamp) -> Result<Vec<IdempotencyResult<SubmitOutcome>>> }
    };
    (@task $on:tt) => { $crate::forward! { @async task $on [] (id: TaskId) -> Result<Option<Task>> } };
    (@task_by_key $on:tt) => {
        $crate::forward! { @async task_by_key $on ['b]
            (config: ConfigId, key: ref 'b TaskKey) -> Result<Option<Task>> }
    };
    (@change $on:tt) => {
        $crate::forward! { @async change $on ['b]
            (subject: Subject, command: TaskCommand, by: ref 'b Actor, now: Timestamp) -> Result<CommandResult> }
    };
    (@cancel_open $on:tt) => {
        $crate::forward! { @async cancel_open $on ['b]
            (config: ConfigId, limit: usize, by: ref 'b Actor, now: Timestamp) -> Result<CancelCount> }
    };
    (@search $on:tt) => { $crate::forward! { @async search $on [] (query: TaskQuery) -> Result<Page> } };
    (@attempts $on:tt) => { $crate::forward! { @async attempts $on [] (id: TaskId) -> Result<Vec<AttemptRecord>> } };
    (@load $on:tt) => { $crate::forward! { @async load $on ['b] (ids: ref 'b [TaskId]) -> Each<Option<Box<Task>>> } };
    (@begin $on:tt) => {
        $crate::forward! { @async begin $on []
            (node: NodeId, batch: Vec<BeginRequest>, now: Timestamp) -> Each<BeginResult> }
    };
    (@finish $on:tt) => {
        $crate::forward! { @async finish $on []
            (node: NodeId, batch: Vec<Finish>, now: Timestamp) -> Each<FinishResult> }
    };
    (@release $on:tt) => {
        $crate::forward! { @async release $on []
            (batch: Vec<(TaskId, i64)>, now: Timestamp) -> Result<Vec<Task>, WorkError> }
    };
    (@executing $on:tt) => {
        $crate::forward! { @async executing $on []
            (node: NodeId, bulkhead: usize) -> Result<Vec<(TaskId, u32)>, WorkError> }
    };
    (@release_orphans $on:tt) => {
        $crate::forward! { @async release_orphans $on []
            (node: NodeId, rows: Vec<(TaskId, u32)>, now: Timestamp) -> Result<Vec<Task>, WorkError> }
    };
    (@register_node $on:tt) => {
        $crate::forward! { @async register_node $on ['b]
            (name: ref 'b str, now: Timestamp) -> Result<NodeId> }
    };
    (@take_shards $on:tt) => {
        $crate::forward! { @async take_shards $on []
            (node: NodeId, now: Timestamp) -> Result<Owner> }
    };
    (@dead_nodes $on:tt) => {
        $crate::forward! { @async dead_nodes $on ['b]
            (among: ref 'b [NodeId]) -> Result<Vec<NodeId>> }
    };
    (@earliest_due $on:tt) => { $crate::forward! { @async earliest_due $on [] () -> Result<Vec<EarliestDue>> } };
    (@in_flight $on:tt) => {
        $crate::forward! { @async in_flight $on []
            (after: Option<FlightMark>, limit: usize) -> Result<InFlightPage> }
    };
    (@next_deadline $on:tt) => { $crate::forward! { @async next_deadline $on [] () -> Result<Option<Timestamp>> } };
    (@parks $on:tt) => {
        $crate::forward! { @async parks $on []
            (reread: bool, now: Timestamp) -> Result<Vec<Park>> }
    };
    (@save_parks $on:tt) => { $crate::forward! { @async save_parks $on [] (events: Vec<ParkEvent>) -> Result<()> } };
    (@cursors $on:tt) => { $crate::forward! { @async cursors $on [] () -> Result<Vec<Cursor>> } };
    (@cursors_of $on:tt) => {
        $crate::forward! { @async cursors_of $on ['b]
            (configs: ref 'b [ConfigId]) -> Result<Vec<Cursor>> }
    };
    (@apply_retention $on:tt) => {
        $crate::forward! { @async apply_retention $on []
            (limit: usize, now: Timestamp) -> Result<usize> }
    };
    (@audit $on:tt) => { $crate::forward! { @async audit $on [] (now: Timestamp) -> Result<Audit> } };
    (@refresh $on:tt) => { $crate::forward! { @async refresh $on [] () -> Result<()> } };
    (@create_app $on:tt) => {
        $crate::forward! { @async create_app $on ['b]
            (app: NewApp, key: Option<IdempotencyRequest<AppSaved>>, by: ref 'b Actor, now: Timestamp)
                -> Result<IdempotencyResult<AppSaved>> }
    };
    (@update_app $on:tt) => {
        $crate::forward! { @async update_app $on ['b]
            (id: AppId, edit: AppEdit, by: ref 'b Actor, now: Timestamp) -> Result<AppSaved> }
    };
    (@delete_app $on:tt) => {
        $crate::forward! { @async delete_app $on ['b]
            (id: AppId, by: ref 'b Actor, now: Timestamp) -> Result<DeleteResult> }
    };
    (@create_key $on:tt) => {
        $crate::forward! { @async create_key $on ['b]
            (key: NewKey, by: ref 'b Actor, now: Timestamp) -> Result<ApiKey> }
    };
    (@keys $on:tt) => { $crate::forward! { @async keys $on [] (app: Option<AppId>) -> Result<Vec<ApiKey>> } };
    (@key_by_hash $on:tt) => {
        $crate::forward! { @async key_by_hash $on ['b]
            (hash: ref 'b [u8; 32]) -> Result<Option<ApiKey>> }
    };
    (@delete_key $on:tt) => {
        $crate::forward! { @async delete_key $on ['b]
            (app: Option<AppId>, id: KeyId, by: ref 'b Actor, now: Timestamp) -> Result<DeleteResult> }
    };
    (@save_config $on:tt) => {
        $crate::forward! { @async save_config $on ['b]
            (save: SaveConfig, key: Option<IdempotencyRequest<ConfigSaved>>, by: ref 'b Actor, now: Timestamp)
                -> Result<IdempotencyResult<ConfigSaved>> }
    };
    (@hold_config $on:tt) => {
        $crate::forward! { @async hold_config $on ['b]
            (id: ConfigId, hold: Hold, by: ref 'b Actor, now: Timestamp) -> Result<ConfigSaved> }
    };
    (@delete_config $on:tt) => {
        $crate::forward! { @async delete_config $on ['b]
            (id: ConfigId, expected: ExpectedVersion, by: ref 'b Actor, now: Timestamp) -> Result<DeleteResult> }
    };
    (@parked $on:tt) => {
        $crate::forward! { @async parked $on []
            (id: ConfigId, now: Timestamp) -> Result<Option<Park>> }
    };
    (@unpark $on:tt) => { $crate::forward! { @async unpark $on [] (id: ConfigId, now: Timestamp) -> Result<()> } };
    (@renew_id_slot $on:tt) => {
        $crate::forward! { @async renew_id_slot $on []
            (slot: u8, until: Timestamp) -> Result<Timestamp> }
    };
    (@audit_log $on:tt) => { $crate::forward! { @async audit_log $on [] (limit: usize) -> Result<Vec<AuditEntry>> } };
    (@applied_by_all $on:tt) => { $crate::forward! { @async applied_by_all $on [] (seq: i64) -> Result<bool> } };
    (@plain $name:ident [$($field:ident).+] ($($arg:ident: $type:ty)?) -> $answer:ty) => {
        fn $name(&self, $($arg: $type)?) -> $answer {
            self.$($field).+.$name($($arg)?)
        }
    };
    (
        @async $name:ident [$($field:ident).+] [$($life:lifetime)?]
            ($($arg:ident: $(ref $by:lifetime)? $type:ty),*) -> $answer:ty
    ) => {
        fn $name<'a, $($life,)? 'f>(&'a self, $($arg: $(&$by)? $type),*) -> $crate::forward::Answer<'f, $answer>
        where
            'a: 'f,
            $($life: 'f,)?
            Self: 'f,
        {
            self.$($field).+.$name($($arg),*)
        }
    };
    (
        @async $name:ident [$field:ident by $through:ident] [$($life:lifetime)?]
            ($($arg:ident: $(ref $by:lifetime)? $type:ty),*) -> $answer:ty
    ) => {
        fn $name<'a, $($life,)? 'f>(&'a self, $($arg: $(&$by)? $type),*) -> $crate::forward::Answer<'f, $answer>
        where
            'a: 'f,
            $($life: 'f,)?
            Self: 'f,
        {
            let inner = self.$field.clone();
            $(let $arg = $crate::forward! { @owned $arg $($by)? };)*
            Box::pin(self.$through(
                stringify!($name),
                async move { inner.$name($($crate::forward! { @lent $arg $($by)? }),*).await },
            ))
        }
    };
    (@owned $arg:ident) => { $arg };
    (@owned $arg:ident $by:lifetime) => { $arg.to_owned() };
    (@lent $arg:ident) => { $arg };
    (@lent $arg:ident $by:lifetime) => { &$arg };
}
