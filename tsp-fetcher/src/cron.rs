//! Schedules: slots become occurrences with their tasks, and the cursor moves, in one transaction.

use tsp_core::{ConfigId, Timestamp};
use tsp_store::fetching::FireResult;
use tsp_store::{Result, StoreError};

use crate::fetcher::Fetcher;

impl Fetcher {
    /// Handles every schedule whose slot has come, and every cursor that is to be computed again.
    pub(crate) async fn fire_schedules(&mut self, now: Timestamp) -> Result<usize> {
        let mut fires = Vec::new();
        for config in self.schedules.take_due(&self.deps.config_cache, now) {
            match self.schedules.step_of(config, &self.deps, &self.ownership, now) {
                Ok(fire) => fires.extend(fire),
                Err(error) => self.fire_failed(config, &error, now),
            }
        }
        if fires.is_empty() {
            return Ok(0);
        }
        let owner = self.deps.owner;
        let configs: Vec<_> = fires.iter().map(|fire| fire.config).collect();
        let answers = self.deps.store.fire(owner, fires, now).await;
        let (mut made, mut stale) = (0, Vec::new());
        for (config, answer) in configs.into_iter().zip(answers) {
            match answer {
                Ok(FireResult::Moved { cursor, made: tasks, skipped }) => {
                    made += tasks.len();
                    if skipped > 0 {
                        tracing::info!(%config, skipped, "slots left out: the previous occurrence is open");
                    }
                    for task in tasks {
                        self.flow.due(task.config, task.due_at);
                    }
                    self.schedules.remember(cursor);
                }
                Ok(FireResult::Stale) => stale.push(config),
                Ok(FireResult::Deposed) => self.ownership.note(true),
                Err(error) => self.fire_failed(config, &error, now),
            }
        }
        if !stale.is_empty() {
            self.read_again(&stale).await?;
        }
        Ok(made)
    }

    fn fire_failed(&mut self, config: ConfigId, error: &StoreError, now: Timestamp) {
        tracing::warn!(%config, %error, "a step of a schedule failed, will try again");
        self.schedules.try_again(config, now);
        if matches!(error, StoreError::Unknown(_)) {
            self.rescue.look_again();
        }
    }

    /// Finds the schedules that changed without a hint. All cursors are read once, at the first turn.
    pub(crate) async fn catch_up_schedules(&mut self) -> Result<()> {
        if !self.schedules.is_read() {
            let cursors = self.deps.store.cursors().await?;
            self.schedules.load(cursors, &self.deps.config_cache);
        }
        self.schedules.catch_up(&self.deps.config_cache, &self.ownership);
        Ok(())
    }

    /// Reads these cursors alone: somebody else has moved them, or their config is another one.
    async fn read_again(&mut self, configs: &[ConfigId]) -> Result<()> {
        let cursors = self.deps.store.cursors_of(configs).await?;
        for config in configs {
            self.schedules.forget(*config);
        }
        for cursor in cursors {
            self.schedules.compare(cursor, &self.deps.config_cache);
        }
        Ok(())
    }
}
