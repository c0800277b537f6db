//! Imports go down only, and each outside library that shapes the design has its owners.

use crate::Outcome;
use crate::workspace::{Dependency, Package};

/// Which of our crates each of our crates may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tsp-core", &[]),
    ("tsp-api", &["tsp-core"]),
    ("tsp-store", &["tsp-core"]),
    ("tsp-store-testing", &["tsp-core", "tsp-store"]),
    ("tsp-store-sqlite", &["tsp-core", "tsp-store"]),
    ("tsp-store-mysql", &["tsp-core", "tsp-store"]),
    ("tsp-nsq", &[]),
    ("tsp-queue", &["tsp-core", "tsp-nsq"]),
    ("tsp-client", &["tsp-api", "tsp-core"]),
    ("tsp-consumer-core", &["tsp-core", "tsp-queue", "tsp-api"]),
    ("tsp-web", &["tsp-core", "tsp-api", "tsp-store"]),
    ("tsp-fetcher", &["tsp-core", "tsp-store", "tsp-queue"]),
    ("tsp-worker", &["tsp-core", "tsp-consumer-core"]),
    (
        "tsp",
        &[
            "tsp-core",
            "tsp-api",
            "tsp-store",
            "tsp-store-mysql",
            "tsp-store-sqlite",
            "tsp-queue",
            "tsp-client",
            "tsp-consumer-core",
            "tsp-web",
            "tsp-fetcher",
            "tsp-worker",
        ],
    ),
    (
        "bench",
        &[
            "tsp-core",
            "tsp-api",
            "tsp-client",
            "tsp-store",
            "tsp-store-mysql",
            "tsp-store-sqlite",
            "tsp-worker",
            "peers",
        ],
    ),
    ("peers", &[]),
    ("tests", &["tsp-core", "tsp-api", "tsp-client", "tsp-worker", "peers"]),
    ("sim", &["tsp-core", "tsp-store", "tsp-store-testing", "tsp-queue", "tsp-fetcher", "tsp-consumer-core"]),
    ("xtask", &[]),
];

/// A library that only some crates may name.
struct OwnedLibrary {
    library: &'static str,
    owners: &'static [&'static str],
    /// Who may use it in `[dev-dependencies]`; `None` for everybody.
    dev_owners: Option<&'static [&'static str]>,
    why: &'static str,
}

const OWNED: &[OwnedLibrary] = &[
    OwnedLibrary {
        library: "rusqlite",
        // The benchmarks look into its tables, and fill them.
        owners: &["tsp-store-sqlite", "bench"],
        dev_owners: Some(&["tsp-store-sqlite", "tests"]),
        why: "only the store knows SQL: add a verb to a store trait",
    },
    OwnedLibrary {
        library: "sqlx",
        owners: &["tsp-store-mysql"],
        dev_owners: Some(&["tsp-store-mysql", "tests"]),
        why: "only the store knows SQL: add a verb to a store trait",
    },
    OwnedLibrary {
        library: "axum",
        owners: &["tsp-web"],
        dev_owners: Some(&["tsp-web"]),
        why: "only the web crate serves HTTP: put the handler there",
    },
    OwnedLibrary {
        library: "rand",
        owners: &["tsp"],
        dev_owners: None,
        why: "randomness is an argument: take the injected generator",
    },
    OwnedLibrary {
        library: "reqwest",
        owners: &["tsp-client", "tsp", "bench", "tests"],
        dev_owners: None,
        why: "callbacks leave through the worker's guarded connector: use that, or hyper",
    },
];

/// Libraries a crate must not name at all.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("tsp-core", "serde", "the core is not serialisable: give the border its own wire type"),
    ("tsp-core", "tokio", "the core does no IO and runs nothing: return an effect and let the caller act"),
];

pub(crate) fn check(packages: &[Package]) -> Outcome {
    let mut problems = Vec::new();
    for package in packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            problems.push(format!(
                "`{}` has no layer: add it to the table in xtask/src/layers.rs and to ARCHITECTURE.md",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            problems.extend(upward(&package.name, dependency, allowed));
            problems.extend(not_owner(&package.name, dependency));
            problems.extend(forbidden(&package.name, dependency));
        }
    }
    Outcome { summary: format!("{} crates", packages.len()), problems }
}

fn is_dev(dependency: &Dependency) -> bool {
    dependency.kind.as_deref() == Some("dev")
}

fn upward(krate: &str, dependency: &Dependency, allowed: &[&str]) -> Option<String> {
    let ours = ALLOWED.iter().any(|(name, _)| *name == dependency.name);
    // A crate may test itself against any other; the integration crate has nothing but such dependencies.
    let excused = is_dev(dependency) && krate != "tests";
    if !ours || excused || allowed.contains(&dependency.name.as_str()) {
        return None;
    }
    let may = if allowed.is_empty() { "none of ours".to_owned() } else { allowed.join(", ") };
    Some(format!(
        "`{krate}` depends on `{}`: imports go down only and `{krate}` may use {may}. \
         Take a trait from a layer below and let `tsp` hand in the implementation",
        dependency.name
    ))
}

fn not_owner(krate: &str, dependency: &Dependency) -> Option<String> {
    let owned = OWNED.iter().find(|owned| owned.library == dependency.name)?;
    let owners = if is_dev(dependency) { owned.dev_owners? } else { owned.owners };
    if owners.contains(&krate) {
        return None;
    }
    Some(format!(
        "`{krate}` depends on `{}`, which belongs to {}. Rule and remedy: {}",
        owned.library,
        owners.join(", "),
        owned.why
    ))
}

fn forbidden(krate: &str, dependency: &Dependency) -> Option<String> {
    let (_, library, why) = FORBIDDEN
        .iter()
        .find(|(owner, library, _)| *owner == krate && *library == dependency.name && !is_dev(dependency))?;
    Some(format!("`{krate}` depends on `{library}`, which it must not know. Rule and remedy: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems(krate: &str, library: &str, kind: Option<&str>) -> Vec<String> {
        let package = json!([{
            "name": krate,
            "manifest_path": "Cargo.toml",
            "dependencies": [{ "name": library, "kind": kind }],
        }]);
        check(&serde_json::from_value::<Vec<Package>>(package).unwrap()).problems
    }

    #[test]
    fn down_is_allowed_and_up_is_not() {
        assert!(problems("tsp-web", "tsp-store", None).is_empty());
        let up = problems("tsp-web", "tsp-queue", None);
        assert_eq!(up.len(), 1);
        assert!(up[0].contains("`tsp-web` depends on `tsp-queue`"), "{up:?}");
        assert_eq!(problems("tsp-core", "tsp-api", Some("build")).len(), 1);
    }

    #[test]
    fn dev_dependencies_may_point_up_except_in_the_integration_crate() {
        assert!(problems("tsp-queue", "tsp-store", Some("dev")).is_empty());
        assert_eq!(problems("tests", "tsp-store", Some("dev")).len(), 1);
    }

    #[test]
    fn libraries_have_owners() {
        assert!(problems("tsp-store-sqlite", "rusqlite", None).is_empty());
        assert!(problems("tests", "rusqlite", Some("dev")).is_empty());
        assert_eq!(problems("tests", "rusqlite", None).len(), 1);
        assert_eq!(problems("tsp-web", "rusqlite", Some("dev")).len(), 1);
        assert_eq!(problems("tsp-worker", "axum", None).len(), 1);
        assert_eq!(problems("tsp-worker", "axum", Some("dev")).len(), 1);
        assert!(problems("tsp-worker", "reqwest", Some("dev")).is_empty());
        assert_eq!(problems("tsp-fetcher", "rand", None).len(), 1);
        assert_eq!(problems("tsp-worker", "reqwest", None).len(), 1);
    }

    #[test]
    fn the_core_knows_neither_serde_nor_tokio() {
        assert_eq!(problems("tsp-core", "serde", None).len(), 1);
        assert_eq!(problems("tsp-core", "tokio", None).len(), 1);
        assert!(problems("tsp-core", "tokio", Some("dev")).is_empty());
    }

    #[test]
    fn a_new_crate_needs_a_layer() {
        assert!(problems("tsp-new", "bytes", None)[0].contains("has no layer"));
    }

    #[test]
    fn the_table_has_no_cycle() {
        // Each crate may use only crates whose own reach does not lead back to it.
        fn reaches(from: &str, to: &str) -> bool {
            let (_, below) = ALLOWED.iter().find(|(name, _)| *name == from).unwrap();
            below.iter().any(|name| *name == to || reaches(name, to))
        }
        for (name, _) in ALLOWED {
            assert!(!reaches(name, name), "{name}");
        }
    }
}
