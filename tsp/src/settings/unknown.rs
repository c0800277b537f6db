//! What to say about a key that does not exist.

use super::layers::Origin;

/// How alike two keys must be for one to be a slip of the other (Jaro-Winkler, 0 to 1).
const NEAR: f64 = 0.85;

/// Names the key, where it stands, what was probably meant, and what is allowed there.
pub(super) fn explain<'a>(key: &str, origin: &Origin, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let meant = nearest(key, &known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("unknown setting `{key}` in {origin}{meant} {}", allowed(key, &known))
}

fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let alike = |other: &str| {
        // The right name in the wrong section is a slip too.
        let same_name = if name(other) == name(key) { NEAR } else { 0.0 };
        strsim::jaro_winkler(key, other).max(same_name)
    };
    let best = known.iter().map(|other| (alike(other), *other)).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness >= NEAR).map(|(_, other)| other)
}

/// The keys of the section that was meant, or the sections.
fn allowed(key: &str, known: &[&str]) -> String {
    let section = |key: &str| key.rsplit_once('.').map(|(section, _)| section.to_owned()).unwrap_or_default();
    let given = if known.iter().any(|other| section(other) == key) { key.to_owned() } else { section(key) };
    let keys: Vec<_> =
        known.iter().filter(|other| section(other) == given).map(|key| format!("`{key}`")).collect();
    if !keys.is_empty() {
        return format!("(allowed there: {})", keys.join(", "));
    }
    let mut sections: Vec<_> = known.iter().map(|key| format!("`{}`", section(key))).collect();
    sections.dedup();
    format!("(sections: {})", sections.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(key: &str) -> String {
        let known =
            ["log.filter", "log.format", "web.listen", "web.payload_max", "worker.http.allow_networks"];
        explain(key, &Origin::File("tsp.toml".into()), known.into_iter())
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        assert_eq!(
            said("web.listn"),
            "unknown setting `web.listn` in `tsp.toml`; did you mean `web.listen`? \
             (allowed there: `web.listen`, `web.payload_max`)"
        );
        assert!(said("worker.allow_networks").contains("did you mean `worker.http.allow_networks`?"));
        let far = said("zebra.stripes");
        assert!(
            !far.contains("did you mean") && far.contains("sections: `log`, `web`, `worker.http`"),
            "{far}"
        );
        assert!(said("web").contains("`web.listen`"), "{}", said("web"));
    }
}
