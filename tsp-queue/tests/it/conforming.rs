use std::sync::Arc;

use tsp_queue::conformance::{self, QueueUnderTest};
use tsp_queue::nsq::{NsqPublisher, NsqSubscriber};

use crate::fixture::{Fixture, soon};

async fn conforms_over(count: usize) {
    let fixture = Fixture::new(count);
    // All queues are in the same nsqds, each with a name of its own.
    let made = std::cell::Cell::new(0);
    let make = |capacity| {
        made.set(made.get() + 1);
        let name = tsp_core::Name::queue(&format!("queue-{}", made.get())).unwrap();
        let mut options = fixture.options.clone();
        options.capacity = capacity;
        let nsq = tsp_queue::nsq::NsqContext::start(options, fixture.tracker.clone(), fixture.stop.clone())
            .unwrap();
        async move {
            let publisher = Arc::new(NsqPublisher::start(&nsq, Arc::new(|| {}), Arc::new(|| {})));
            let subscriber = Arc::new(NsqSubscriber::start(&nsq, &name, 100).unwrap());
            soon(subscriber.connected()).await;
            QueueUnderTest { name, publisher, subscriber }
        }
    };
    conformance::run_all(&|capacity| Box::pin(make(capacity))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_over_one_nsqd_conforms() {
    conforms_over(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_over_two_nsqds_conforms() {
    conforms_over(2).await;
}
