//! What calls a task's receiver: the handler of a worker.

use std::sync::Arc;

use async_trait::async_trait;
use tsp_consumer_core::{TaskContext, TaskHandler};
use tsp_core::outcome::Verdict;
use tsp_core::{Clock, ClusterClock, Millis};

use super::{Ground, pass};
use crate::world::answer;

pub(super) struct Callee {
    pub(super) ground: Arc<Ground>,
    pub(super) clock: Arc<ClusterClock>,
}

impl std::fmt::Debug for Callee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callee")
    }
}

#[async_trait]
impl TaskHandler for Callee {
    async fn execute(&self, context: &TaskContext) -> Verdict {
        let (ground, now) = (&self.ground, self.clock.now());
        let life = context.task.node.map_or(0, |node| u32::try_from(node.get()).unwrap_or(u32::MAX));
        ground.note_deaths();
        ground.watch(|| ground.checker.lock().sent(context, life, now, &ground.store));
        let calm = ground.is_calm();
        let verdict = if calm { Verdict::done() } else { answer(&ground.chance, &ground.plan.answers, now) };
        let slow = !calm && ground.chance.hits(ground.plan.slow_per_mille);
        let (least, most) = if slow { (3_000, 12_000) } else { (1, 300) };
        let length = Millis::from_ms(ground.chance.ms(least, most));
        pass(length).await;
        ground.checker.lock().answered(context, &verdict, self.clock.now());
        verdict
    }
}
