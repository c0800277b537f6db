//! Waits that receivers ask for: kept for the next owner and for those who look.

use tsp_core::{ConfigId, Millis, TaskId};
use tsp_store::parks::{KEPT, Park, ParkEvent};

use super::fixture::{Fixture, T0, at};

fn park(config: ConfigId, since: i64, until: i64) -> Park {
    Park { config, since: at(since), until: at(until), by: TaskId::new(since + 1) }
}

async fn save(fixture: &Fixture, events: &[ParkEvent]) {
    fixture.store.save_parks(events.to_vec()).await.expect("save_parks");
}

async fn parked(fixture: &Fixture, config: ConfigId, now: i64) -> Option<Park> {
    let one = fixture.store.parked(config, at(now)).await.expect("parked");
    let all = fixture.store.parks(false, at(now)).await.expect("parks");
    assert_eq!(all.into_iter().find(|park| park.config == config), one, "the list and the one");
    one
}

/// Until it is over.
pub(super) async fn the_longest_wait_counts(fixture: &Fixture) {
    let (config, other) = (fixture.config("one").await.id, fixture.config("two").await.id);
    assert_eq!(parked(fixture, config, 0).await, None);
    save(fixture, &[ParkEvent::Asked(park(config, 0, 30)), ParkEvent::Asked(park(other, 1, 20))]).await;
    save(fixture, &[ParkEvent::Asked(park(config, 2, 10))]).await;
    assert_eq!(parked(fixture, config, 29).await, Some(park(config, 0, 30)));
    assert_eq!(parked(fixture, other, 19).await, Some(park(other, 1, 20)));
    assert_eq!((parked(fixture, config, 30).await, parked(fixture, other, 20).await), (None, None));
    save(fixture, &[ParkEvent::Asked(park(config, 3, 40))]).await;
    assert_eq!(parked(fixture, config, 39).await, Some(park(config, 3, 40)));
}

/// Whichever comes first.
pub(super) async fn an_end_counts_for_what_was_asked_for_before_it(fixture: &Fixture) {
    let config = fixture.config("one").await.id;
    fixture.store.unpark(config, at(1)).await.expect("unpark");
    save(fixture, &[ParkEvent::Ended { config, at: at(2) }]).await;
    assert_eq!(parked(fixture, config, 2).await, None, "there was nothing");
    save(fixture, &[ParkEvent::Asked(park(config, 3, 90))]).await;
    fixture.store.unpark(config, at(5)).await.expect("unpark");
    assert_eq!(parked(fixture, config, 5).await, None);
    save(fixture, &[ParkEvent::Asked(park(config, 4, 99)), ParkEvent::Asked(park(config, 5, 99))]).await;
    assert_eq!(parked(fixture, config, 6).await, None, "told late");
    save(fixture, &[ParkEvent::Ended { config, at: at(4) }, ParkEvent::Asked(park(config, 6, 50))]).await;
    assert_eq!(parked(fixture, config, 6).await, Some(park(config, 6, 50)));
    save(fixture, &[ParkEvent::Ended { config, at: at(7) }]).await;
    assert_eq!(parked(fixture, config, 7).await, None);
}

/// A new owner begins with them.
pub(super) async fn they_outlive_their_owner(fixture: &Fixture) {
    let config = fixture.config("one").await.id;
    save(fixture, &[ParkEvent::Asked(park(config, 0, 90))]).await;
    let node = fixture.store.register_node("next", T0).await.expect("register_node");
    fixture.store.take_shards(node, T0).await.expect("take_shards");
    assert_eq!(fixture.store.parks(true, at(1)).await.expect("parks"), [park(config, 0, 90)]);
}

/// And not before.
pub(super) async fn what_is_over_for_long_is_forgotten(fixture: &Fixture) {
    let config = fixture.config("one").await.id;
    save(fixture, &[ParkEvent::Asked(park(config, 0, 90))]).await;
    let late = at(90).plus(KEPT);
    assert_eq!(fixture.store.apply_retention(10, late).await.expect("prune"), 0);
    assert_eq!(fixture.store.apply_retention(10, late.plus(Millis::from_ms(1))).await.expect("prune"), 1);
    assert_eq!(parked(fixture, config, 1).await, None);
}
