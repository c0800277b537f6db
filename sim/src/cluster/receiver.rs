//! What calls a task's receiver: the handler of a worker.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_consumer_core::{TaskContext, TaskHandler};
use tsp_core::outcome::Verdict;
use tsp_core::{Clock, ClusterClock, Millis};

use super::{Environment, pass};
use crate::harness::answer;

pub(super) struct ScriptedReceiver {
    pub(super) environment: Arc<Environment>,
    pub(super) clock: Arc<ClusterClock>,
}

impl std::fmt::Debug for ScriptedReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callee")
    }
}

#[async_trait]
impl TaskHandler for ScriptedReceiver {
    async fn execute(&self, context: &TaskContext) -> Verdict {
        let (environment, now) = (&self.environment, self.clock.now());
        let life = context.task.node.map_or(0, |node| u32::try_from(node.get()).unwrap_or(u32::MAX));
        environment.note_deaths();
        environment.watch(|| environment.checker.lock().sent(context, life, now, &environment.store));
        let calm = environment.is_calm();
        let verdict =
            if calm { Verdict::done() } else { answer(&environment.rng, &environment.plan.answers, now) };
        let slow = !calm && environment.rng.hits(environment.plan.slow_per_mille);
        let (least, most) = if slow { (3_000, 12_000) } else { (1, 300) };
        let length = Millis::from_ms(environment.rng.ms(least, most));
        pass(length).await;
        environment.checker.lock().answered(context, &verdict, self.clock.now());
        verdict
    }
}
