//! What only this back end has: faults and the ledger. What every store means is in `conformance`.

use futures::FutureExt;

use super::*;
use crate::catalog::{Catalog, NewApp};
use crate::tasks::Actor;
use tsp_core::{Name, Timestamp};

fn now<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().expect("the memory store never waits")
}

fn new_app(name: &str) -> NewApp {
    NewApp { name: Name::new(name).unwrap(), description: String::new(), owner: String::new() }
}

#[test]
fn a_fault_before_changes_nothing_and_a_fault_after_changes_all_but_says_so() {
    let store = MemoryStore::new(4);
    let mut faults = vec![Fault::None, Fault::After, Fault::Before];
    store.set_faults(Box::new(move |call| {
        assert_eq!(call, "create_app");
        faults.pop().unwrap_or_default()
    }));
    let by = Actor::system();
    let before = now(store.create_app(new_app("before"), None, &by, Timestamp::ZERO));
    assert!(matches!(before, Err(StoreError::Unavailable { .. })), "{before:?}");
    assert!(store.book().app("before").is_none());
    let after = now(store.create_app(new_app("after"), None, &by, Timestamp::ZERO));
    assert!(matches!(after, Err(StoreError::Unknown(_))), "{after:?}");
    assert!(store.book().app("after").is_some());
    let fine = now(store.create_app(new_app("fine"), None, &by, Timestamp::ZERO));
    assert!(fine.is_ok(), "{fine:?}");
    assert_eq!(store.dump().audit_log.len(), 2);
}

#[test]
fn a_read_with_a_fault_is_only_unavailable() {
    let store = MemoryStore::new(1);
    store.set_faults(Box::new(|_| Fault::After));
    assert!(matches!(now(store.audit_log(1)), Err(StoreError::Unavailable { .. })));
    store.clear_faults();
    assert!(now(store.audit_log(1)).is_ok());
}

mod conformance {
    use std::sync::Arc;

    use crate::WholeStore;
    use crate::conformance::Made;
    use crate::memory::MemoryStore;

    async fn make() -> Made {
        Made::from(Arc::new(MemoryStore::new(8)) as Arc<dyn WholeStore>)
    }

    crate::conformance_tests!(make);
}
