//! Apps and API keys.

use tsp_core::{AppId, KeyId, Millis};
use tsp_store::catalog::{
    ApiKey, AppEdit, AppSaved, DeleteResult, ExpectedVersion, NewApp, NewKey, RateLimit, Scope,
};
use tsp_store::idempotency::IdempotencyResult;

use super::fixture::{Fixture, T0, at, by, name};

fn new_key(app: Option<AppId>, hash: u8) -> NewKey {
    NewKey {
        app,
        name: "order service".to_owned(),
        scopes: vec![Scope::Submit, Scope::Read],
        hash: [hash; 32],
        prefix: "tsp_abcd".to_owned(),
        rate_limit: Some(RateLimit { count: 100, per: Millis::from_secs(1) }),
        expires_at: Some(at(60)),
    }
}

pub(super) async fn an_app_is_made_once_and_found_in_the_config_cache(fixture: &Fixture) {
    let new = NewApp {
        name: name("logistics"),
        description: "ships — überall".to_owned(),
        owner: "ann".to_owned(),
    };
    let saved = fixture.store.create_app(new.clone(), None, &by(), at(3)).await.expect("create_app");
    let IdempotencyResult::Fresh(AppSaved::Saved(app)) = saved else {
        panic!("a new app must be saved: {saved:?}")
    };
    assert_eq!((&app.name, &app.description, &app.owner), (&new.name, &new.description, &new.owner));
    assert_eq!((app.created_at, app.updated_at), (at(3), at(3)));
    assert_eq!(fixture.store.config_cache().app("logistics"), Some(app.clone()));
    assert_eq!(fixture.store.config_cache().app_by_id(app.id), Some(app));
    let again = fixture.store.create_app(new, None, &by(), at(3)).await.expect("create_app");
    assert_eq!(again, IdempotencyResult::Fresh(AppSaved::AlreadyExists));
}

/// What is not given stays.
pub(super) async fn an_edit_changes_only_what_it_names(fixture: &Fixture) {
    let edit = AppEdit { owner: Some("bob".to_owned()), ..AppEdit::default() };
    let saved = fixture.store.update_app(fixture.app, edit, &by(), at(9)).await.expect("update_app");
    let AppSaved::Saved(app) = saved else { panic!("the app is there: {saved:?}") };
    assert_eq!((app.owner.as_str(), app.description.as_str()), ("bob", ""));
    assert_eq!((app.created_at, app.updated_at), (T0, at(9)));
    assert_eq!(fixture.store.config_cache().app_by_id(fixture.app), Some(app));
    let nobody = fixture.store.update_app(AppId::new(999), AppEdit::default(), &by(), T0).await;
    assert_eq!(nobody.expect("update_app"), AppSaved::NotFound);
}

/// Not while it has configs; its keys go with it.
pub(super) async fn an_app_with_configs_is_not_deleted(fixture: &Fixture) {
    let config = fixture.config("close-order").await;
    fixture.config("other").await;
    fixture.store.create_key(new_key(Some(fixture.app), 1), &by(), T0).await.expect("create_key");
    let delete = async || fixture.store.delete_app(fixture.app, &by(), T0).await.expect("delete_app");
    assert_eq!(delete().await, DeleteResult::InUse(2));
    for id in [
        config.id,
        fixture.store.config_cache().find_config(fixture.app, &name("other")).expect("it is there").id,
    ] {
        fixture.store.delete_config(id, ExpectedVersion::Any, &by(), T0).await.expect("delete_config");
    }
    assert_eq!(delete().await, DeleteResult::Deleted);
    assert_eq!(fixture.store.config_cache().app("trade"), None);
    assert_eq!(fixture.store.key_by_hash(&[1; 32]).await.expect("key_by_hash"), None, "its keys are gone");
    assert_eq!(delete().await, DeleteResult::NotFound);
    let next = fixture.make_app("trade").await;
    assert_ne!(next, fixture.app, "an id is never used again");
}

pub(super) async fn a_key_is_found_by_its_hash_with_all_it_says(fixture: &Fixture) {
    let made =
        fixture.store.create_key(new_key(Some(fixture.app), 1), &by(), at(3)).await.expect("create_key");
    let NewKey { app, name, scopes, hash: _, prefix, rate_limit, expires_at } = new_key(Some(fixture.app), 1);
    let wanted = ApiKey { id: made.id, app, name, scopes, prefix, rate_limit, expires_at, created_at: at(3) };
    let sorted = |mut key: ApiKey| {
        key.scopes.sort();
        key
    };
    assert_eq!(sorted(made), sorted(wanted.clone()));
    let found = fixture.store.key_by_hash(&[1; 32]).await.expect("key_by_hash").expect("it is there");
    assert_eq!(sorted(found), sorted(wanted), "also after its expiry: the caller compares");
    assert_eq!(fixture.store.key_by_hash(&[2; 32]).await.expect("key_by_hash"), None);
}

/// Global keys and those of an app are apart, in lists and when deleted.
pub(super) async fn keys_belong_to_their_app(fixture: &Fixture) {
    let store = &fixture.store;
    let own = store.create_key(new_key(Some(fixture.app), 1), &by(), T0).await.expect("create_key").id;
    let global = store.create_key(new_key(None, 2), &by(), T0).await.expect("create_key").id;
    let other = fixture.make_app("logistics").await;
    let ids = async |app| -> Vec<KeyId> {
        store.keys(app).await.expect("keys").into_iter().map(|key| key.id).collect()
    };
    assert_eq!(ids(Some(fixture.app)).await, [own]);
    assert_eq!(ids(None).await, [global]);
    assert!(ids(Some(other)).await.is_empty());
    for (app, id) in [(Some(other), own), (None, own), (Some(fixture.app), global)] {
        let refused = store.delete_key(app, id, &by(), T0).await.expect("delete_key");
        assert_eq!(refused, DeleteResult::NotFound, "key {id} is not of {app:?}");
    }
    assert_eq!(
        store.delete_key(Some(fixture.app), own, &by(), T0).await.expect("delete_key"),
        DeleteResult::Deleted
    );
    assert_eq!(
        store.delete_key(Some(fixture.app), own, &by(), T0).await.expect("delete_key"),
        DeleteResult::NotFound
    );
    assert_eq!(store.key_by_hash(&[1; 32]).await.expect("key_by_hash"), None);
    assert_eq!(store.delete_key(None, global, &by(), T0).await.expect("delete_key"), DeleteResult::Deleted);
}

/// Who made and deleted what; never the hash.
pub(super) async fn catalog_changes_are_in_the_audit_log(fixture: &Fixture) {
    let key =
        fixture.store.create_key(new_key(Some(fixture.app), 1), &by(), at(1)).await.expect("create_key");
    fixture.store.delete_key(Some(fixture.app), key.id, &by(), at(2)).await.expect("delete_key");
    let log = fixture.store.audit_log(100).await.expect("audit_log");
    let brief: Vec<_> = log.iter().map(|entry| (entry.action.as_str(), entry.at)).collect();
    assert_eq!(brief, [("key.delete", at(2)), ("key.create", at(1)), ("app.create", T0)], "newest first");
    assert!(log.iter().all(|entry| entry.actor == by().0), "each names its actor: {log:?}");
    assert_eq!(fixture.store.audit_log(1).await.expect("audit_log"), log[..1]);
}
