//! Names of topics and channels (DESIGN.md section 8).

use tsp_core::Name;
use tsp_nsq::{Channel, NameError, Topic};

/// The only channel of a queue.
const WORKER: &str = "worker";

/// Fails for a name that is too long for a queue.
pub(crate) fn queue_topic(queue: &Name) -> Result<Topic, NameError> {
    Topic::new(&format!("tsp.q.{queue}"))
}

pub(crate) fn worker_channel() -> Channel {
    Channel::new(WORKER).expect("it is a good name")
}

/// Fails for a name that is too long for a group.
pub(crate) fn hint_topic(group: &Name) -> Result<Topic, NameError> {
    Topic::new(&format!("tsp.hint.{group}#ephemeral"))
}

/// As [`hint_topic`].
pub(crate) fn feedback_topic(group: &Name) -> Result<Topic, NameError> {
    Topic::new(&format!("tsp.fb.{group}#ephemeral"))
}

/// Of one process, so that each gets all. It goes with its consumer.
pub(crate) fn node_channel(node: &str) -> Result<Channel, NameError> {
    Channel::new(&format!("{node}#ephemeral"))
}

#[cfg(test)]
mod tests {
    use tsp_core::name::{GROUP_NAME_MAX, QUEUE_NAME_MAX};

    use super::*;

    #[test]
    fn the_longest_names_fit_exactly() {
        let name = |length: usize| Name::new(&"a".repeat(length)).unwrap();
        assert!(queue_topic(&name(QUEUE_NAME_MAX)).is_ok());
        assert!(queue_topic(&name(QUEUE_NAME_MAX + 1)).is_err());
        assert!(hint_topic(&name(GROUP_NAME_MAX)).is_ok() && feedback_topic(&name(GROUP_NAME_MAX)).is_ok());
        assert!(hint_topic(&name(GROUP_NAME_MAX + 1)).is_err());
        assert_eq!(hint_topic(&name(1)).unwrap().as_str(), "tsp.hint.a#ephemeral");
        assert_eq!(feedback_topic(&name(1)).unwrap().as_str(), "tsp.fb.a#ephemeral");
        assert_eq!(queue_topic(&name(1)).unwrap().as_str(), "tsp.q.a");
        assert_eq!(worker_channel().as_str(), WORKER);
        assert_eq!(node_channel("17").unwrap().as_str(), "17#ephemeral");
        assert!(node_channel("a node").is_err());
    }
}
