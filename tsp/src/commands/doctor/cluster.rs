//! What can be seen of a cluster: its databases, its processes, its queue.

use std::collections::BTreeMap;

use tsp_core::{Millis, Name, Timestamp};

use super::{Finding, queue};
use crate::failure::Result;
use crate::settings::Settings;
use crate::wiring::cluster::offline::{
    self, ClusterView, DatabaseFacts, DatabaseView, NodeFacts, Problem, ProblemKind, inspect,
};
use crate::wiring::offline::block_on;

/// A lease that has been expired for so long has nobody who would take it.
const LEASE_OVER_LONG: Millis = Millis::from_secs(30);
/// Of what a server allows.
const NEARLY_PERCENT: i64 = 80;

/// All findings, each with its subject.
pub(super) fn check(settings: &Settings, now: Timestamp) -> Result<Vec<(&'static str, Vec<Finding>)>> {
    let options = offline::options(settings)?;
    let queue_name = Name::new("default").ok();
    let (view, queue) = block_on(async {
        let queue = queue::look(&settings.queue, queue_name);
        Ok(tokio::join!(inspect(&options), queue))
    })?;
    let max_skew = options.max_skew;
    Ok(vec![
        ("databases", view.databases.iter().flat_map(|one| database(one, max_skew)).collect()),
        ("clocks", clocks(&view, max_skew)),
        ("cluster", fixed(&view, settings.store.shards)),
        ("limits", limits(&view, options.connections, options.processes)),
        ("processes", processes(&view, now)),
        ("leases", leases(&view)),
        ("queue", queue),
    ])
}

fn database(view: &DatabaseView, max_skew: Millis) -> Vec<Finding> {
    let name = &view.name;
    let facts = match &view.found {
        Ok(facts) => facts,
        Err(why) => {
            return vec![Finding::bad(
                format!("`{name}` cannot be asked: {why}"),
                "start it, or set its address, user and password right (`store.meta.url`, `store.sources`)",
            )];
        }
    };
    let bad = |problem: &Problem| Finding::bad(format!("`{name}`: {}", problem.text), advice(problem.kind));
    let mut findings: Vec<Finding> = facts.wrong.iter().map(bad).collect();
    let to_do = advice(ProblemKind::Server);
    let note = |note: &String| Finding::Note { what: format!("`{name}`: {note}"), to_do: to_do.to_owned() };
    findings.extend(facts.notes.iter().map(note));
    if facts.ahead.ms().abs() > max_skew.ms() {
        findings.push(Finding::bad(
            format!("the clock of `{name}` is {} from this machine's", signed(facts.ahead)),
            "let both follow the same time servers (chrony, ntpd); above `node.max_skew` leases are given back",
        ));
    }
    if !findings.iter().any(|finding| matches!(finding, Finding::Bad { .. })) {
        let leases =
            if facts.leases.is_empty() { String::new() } else { format!(", {} leases", facts.leases.len()) };
        let clock = signed(facts.ahead);
        findings.push(Finding::Good(format!(
            "`{name}`: {}, schema up to date, clock {clock}{leases}",
            facts.version
        )));
    }
    findings
}

fn advice(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::NotMigrated => "run `tsp migrate` with these settings",
        ProblemKind::TablesMissing => {
            "if a move was broken off, end it: `tsp shard list` shows it; else restore them from a backup"
        }
        ProblemKind::OtherBuild => "use the release that upgraded the databases, or a later one",
        ProblemKind::Server => "put the server right; docs/operations.md says what it must be",
    }
}

fn signed(length: Millis) -> String {
    format!("{:+} ms", length.ms())
}

fn good(view: &ClusterView) -> impl Iterator<Item = (&str, &DatabaseFacts)> {
    view.databases.iter().filter_map(|one| one.found.as_ref().ok().map(|facts| (&*one.name, facts)))
}

/// Leases of shards are kept by the clock of their data source, all else by meta's.
fn clocks(view: &ClusterView, max_skew: Millis) -> Vec<Finding> {
    let mut all = good(view);
    let Some(("meta", meta)) = all.next() else { return Vec::new() };
    let apart: Vec<(&str, Millis)> =
        all.map(|(name, facts)| (name, Millis::from_ms(facts.ahead.ms() - meta.ahead.ms()))).collect();
    let wrong: Vec<Finding> = apart
        .iter()
        .filter(|(_, apart)| apart.ms().abs() > max_skew.ms())
        .map(|(name, apart)| {
            Finding::bad(
                format!("the clock of `{name}` is {} from that of `meta`", signed(*apart)),
                "let both servers follow the same time servers: leases end by the one clock, tasks are due by the other",
            )
        })
        .collect();
    if !wrong.is_empty() || apart.is_empty() {
        return wrong;
    }
    let most = apart.iter().map(|(_, apart)| apart.ms().abs()).max().unwrap_or(0);
    vec![Finding::Good(format!("data sources are within {most} ms of `meta`"))]
}

fn fixed(view: &ClusterView, shards: u16) -> Vec<Finding> {
    let mut findings: Vec<Finding> = view
        .fixed
        .iter()
        .map(|why| Finding::bad(why.clone(), "set what it names, the same for every process"))
        .collect();
    for (shard, to) in &view.moving {
        findings.push(Finding::Note {
            what: format!("shard {shard} is on its way to `{to}`"),
            to_do: format!("if no `tsp shard move` runs, run it again: `tsp shard move {shard} --to '{to}'`"),
        });
    }
    if findings.is_empty() && view.sources_of_shards.len() == usize::from(shards) {
        let mut held: BTreeMap<&str, usize> = BTreeMap::new();
        for source_name in view.sources_of_shards.values() {
            *held.entry(source_name).or_default() += 1;
        }
        let held: Vec<String> = held.iter().map(|(name, count)| format!("{count} on `{name}`")).collect();
        findings
            .push(Finding::Good(format!("{shards} shards, {}, the secret key is right", held.join(", "))));
    }
    findings
}

/// What servers allow, against what they have and what this cluster may ask for.
fn limits(view: &ClusterView, connections: u32, processes: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut servers: BTreeMap<&str, (i64, &DatabaseFacts)> = BTreeMap::new();
    for (_, facts) in good(view) {
        servers.entry(&facts.server).or_insert((0, facts)).0 += 1;
    }
    for (server, (databases, facts)) in servers {
        // Two more of each pool are for leases.
        let wanted = databases * i64::from(processes) * (i64::from(connections) + 2);
        let (allowed, now) = facts.connections;
        if wanted > allowed {
            findings.push(Finding::Note {
                what: format!(
                    "{server} allows {allowed} connections, has {now}, and {processes} processes may ask for {wanted}"
                ),
                to_do: format!("`SET GLOBAL max_connections = {}`, or fewer `store.connections`", wanted + 50),
            });
        }
        let (allowed, now) = facts.statements;
        if now * 100 > allowed * NEARLY_PERCENT {
            findings.push(Finding::bad(
                format!("{server} has {now} prepared statements of {allowed} that it allows"),
                "`SET GLOBAL max_prepared_stmt_count = 1048576`: above the limit each statement is tried twice",
            ));
        } else if findings.is_empty() {
            findings.push(Finding::Good(format!(
                "{server}: {} of {} connections, {now} of {allowed} prepared statements",
                facts.connections.1, facts.connections.0
            )));
        }
    }
    findings
}

fn processes(view: &ClusterView, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (late, alive): (Vec<&NodeFacts>, Vec<&NodeFacts>) =
        view.nodes.iter().partition(|node| node.expired_for > Millis::ZERO);
    for node in &alive {
        let behind = view.config_seq - node.config_seq;
        let behind = if behind > 0 { format!(", {behind} changes behind") } else { String::new() };
        findings.push(Finding::Good(format!(
            "`{}` (node {}): {}, version {}, clock {}{behind}",
            node.name,
            node.id,
            node.roles,
            node.version,
            signed(node.clock_offset)
        )));
    }
    for node in late {
        let since = now.minus(node.expired_for);
        findings.push(Finding::Note {
            what: format!(
                "`{}` (node {}, {}) has not renewed its lease; it was over at {since}",
                node.name, node.id, node.roles
            ),
            to_do:
                "if it does not run any more, the next process that does declares it dead; else see its log"
                    .to_owned(),
        });
    }
    for role in ["web", "fetcher", "worker"] {
        if !alive.iter().any(|node| node.roles.split(',').any(|other| other.starts_with(role))) {
            findings.push(Finding::Note {
                what: format!("no process has the role `{role}`"),
                to_do: format!("start one: `tsp serve --roles {role}`"),
            });
        }
    }
    let versions: std::collections::BTreeSet<&str> = alive.iter().map(|node| &*node.version).collect();
    if versions.len() > 2 {
        findings.push(Finding::bad(
            format!("processes of {} versions run", versions.len()),
            "a release runs beside the one before it, not beside older ones: replace those",
        ));
    }
    findings
}

fn leases(view: &ClusterView) -> Vec<Finding> {
    let fetches = |node: &&NodeFacts| node.roles.contains("fetcher") && node.expired_for <= Millis::ZERO;
    let alive: Vec<i64> = view.nodes.iter().filter(fetches).map(|node| node.id).collect();
    let (mut held, mut free, mut expired) = (0, Vec::new(), Vec::new());
    for (name, facts) in good(view) {
        for lease in &facts.leases {
            // One of a shard that has left is unowned.
            if view.sources_of_shards.get(&lease.shard).is_some_and(|source_name| source_name != name) {
                continue;
            }
            let shard_group = format!("{}/{}", lease.group, lease.shard);
            if lease.owner == 0 {
                free.push(shard_group);
            } else if lease.expired_for > LEASE_OVER_LONG
                || !alive.contains(&lease.owner) && lease.expired_for > Millis::ZERO
            {
                expired.push(shard_group);
            } else {
                held += 1;
            }
        }
    }
    if alive.is_empty() && free.len() + expired.len() > 0 {
        return vec![Finding::Note {
            what: format!("{} shares of the shards have no fetcher", free.len() + expired.len()),
            to_do: "start a process with the role `fetcher`: nothing is called back without one".to_owned(),
        }];
    }
    let mut findings = Vec::new();
    for (what, leases) in [("are free", free), ("are over, and nobody has taken them", expired)] {
        if !leases.is_empty() {
            findings.push(Finding::Note {
                what: format!("{} leases {what}: {}", leases.len(), shortened(&leases)),
                to_do: "look again in ten seconds; if they stay, no fetcher serves their group (`fetcher.groups`)"
                    .to_owned(),
            });
        }
    }
    if findings.is_empty() && held > 0 {
        findings.push(Finding::Good(format!("{held} held by {} fetchers", alive.len())));
    }
    findings
}

fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 8 { format!("{shown}, …") } else { shown }
}

#[cfg(test)]
mod tests {
    use tsp_store_mysql::LeaseFacts;

    use super::*;

    const SKEW: Millis = Millis::from_ms(500);

    fn facts(ahead: i64) -> DatabaseFacts {
        DatabaseFacts {
            version: "10.11.6-MariaDB".to_owned(),
            ahead: Millis::from_ms(ahead),
            statements: (16_382, 100),
            connections: (151, 10),
            server: "db:3306".to_owned(),
            ..DatabaseFacts::default()
        }
    }

    fn named(name: &str, facts: DatabaseFacts) -> DatabaseView {
        DatabaseView { name: name.to_owned(), found: Ok(facts) }
    }

    fn bad(findings: &[Finding]) -> Vec<&str> {
        findings
            .iter()
            .filter_map(|finding| if let Finding::Bad { what, .. } = finding { Some(&**what) } else { None })
            .collect()
    }

    #[test]
    fn a_database_that_is_away_or_off_by_its_clock_is_wrong() {
        let away = DatabaseView { name: "two".to_owned(), found: Err("refused".to_owned()) };
        assert!(bad(&database(&away, SKEW))[0].contains("`two` cannot be asked: refused"));
        assert!(bad(&database(&named("one", facts(499)), SKEW)).is_empty());
        assert!(bad(&database(&named("one", facts(-501)), SKEW))[0].contains("-501 ms from this machine's"));
    }

    #[test]
    fn advice_goes_by_what_is_wrong_and_not_by_names() {
        let text =
            "the server of database `build` is 5.7.44: MariaDB 10.6, MySQL 8.0, or a later one is needed";
        let wrong = vec![Problem { kind: ProblemKind::Server, text: text.to_owned() }];
        let found = database(&named("build", DatabaseFacts { wrong, ..facts(0) }), SKEW);
        assert!(
            matches!(&found[..], [Finding::Bad { to_do, .. }] if to_do.starts_with("put the server right")),
            "{found:?}"
        );
    }

    #[test]
    fn data_sources_are_compared_with_meta() {
        let databases = vec![named("meta", facts(-300)), named("one", facts(100)), named("two", facts(400))];
        let view = ClusterView { databases, ..ClusterView::default() };
        let findings = clocks(&view, SKEW);
        assert_eq!(bad(&findings).len(), 1, "{findings:?}");
        assert!(bad(&findings)[0].contains("`two` is +700 ms"), "{findings:?}");
    }

    #[test]
    fn a_server_that_is_nearly_full_is_wrong_and_one_that_is_too_small_is_told() {
        let full = DatabaseFacts { statements: (1_000, 900), ..facts(0) };
        let view = ClusterView { databases: vec![named("meta", full)], ..ClusterView::default() };
        assert!(bad(&limits(&view, 8, 2))[0].contains("900 prepared statements of 1000"));
        let view = ClusterView {
            databases: vec![named("meta", facts(0)), named("one", facts(0))],
            ..ClusterView::default()
        };
        let findings = limits(&view, 16, 5);
        assert!(
            matches!(&findings[0], Finding::Note { what, .. } if what.contains("5 processes may ask for 180")),
            "{findings:?}"
        );
        assert!(matches!(&limits(&view, 2, 5)[0], Finding::Good(_)));
    }

    #[test]
    fn leases_without_a_fetcher_are_told() {
        let lease = |shard, owner, over| LeaseFacts {
            group: "default".to_owned(),
            shard,
            owner,
            expired_for: Millis::from_ms(over),
        };
        let leases = vec![lease(0, 7, -4_000), lease(1, 0, 0), lease(2, 9, 5_000), lease(3, 7, 90_000)];
        let node = NodeFacts {
            id: 7,
            name: "f".to_owned(),
            roles: "fetcher".to_owned(),
            version: "1".to_owned(),
            expired_for: Millis::from_ms(-4_000),
            clock_offset: Millis::ZERO,
            config_seq: 0,
        };
        let view = |nodes| ClusterView {
            databases: vec![named("one", DatabaseFacts { leases: leases.clone(), ..facts(0) })],
            nodes,
            sources_of_shards: BTreeMap::from([(3, "two".to_owned())]),
            ..ClusterView::default()
        };
        let findings = super::leases(&view(vec![node]));
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(matches!(&findings[0], Finding::Note { what, .. } if what.contains("free: default/1")));
        assert!(matches!(&findings[1], Finding::Note { what, .. } if what.ends_with("default/2")));
        let alone = super::leases(&view(Vec::new()));
        assert!(matches!(&alone[0], Finding::Note { to_do, .. } if to_do.contains("fetcher")), "{alone:?}");
    }
}
