//! Which groups a fetcher serves, as its node's roles say it.

use std::collections::BTreeSet;

use tsp_core::Name;

/// The role of a node that serves all groups; `fetcher:trade` serves the group `trade` only, and may stand
/// several times.
pub const FETCHER_ROLE: &str = "fetcher";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServingScope {
    All,
    Only(BTreeSet<Name>),
}

impl ServingScope {
    /// `None` for a node that is no fetcher. A role that cannot be read serves nothing.
    pub fn from_roles(roles: &[String]) -> Option<Self> {
        if roles.iter().any(|role| role == FETCHER_ROLE) {
            return Some(Self::All);
        }
        let named = roles.iter().filter_map(|role| role.strip_prefix(FETCHER_ROLE)?.strip_prefix(':'));
        let mut named = named.peekable();
        named.peek()?;
        Some(Self::Only(named.filter_map(|group| Name::group(group).ok()).collect()))
    }

    /// What the node row is to say.
    pub fn to_roles(&self) -> Vec<String> {
        match self {
            Self::All => vec![FETCHER_ROLE.to_owned()],
            Self::Only(groups) => groups.iter().map(|group| format!("{FETCHER_ROLE}:{group}")).collect(),
        }
    }

    pub fn includes(&self, group: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Only(groups) => groups.contains(group),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_say_what_a_fetcher_serves() {
        let roles = |all: &[&str]| all.iter().map(|&role| role.to_owned()).collect::<Vec<_>>();
        assert_eq!(ServingScope::from_roles(&roles(&["web", "worker"])), None);
        assert_eq!(ServingScope::from_roles(&roles(&["web", "fetcher"])), Some(ServingScope::All));
        let some = ServingScope::from_roles(&roles(&["fetcher:trade", "fetcher:public", "web"])).unwrap();
        assert!(
            some.includes(&Name::group("trade").unwrap()) && !some.includes(&Name::group("log").unwrap())
        );
        assert_eq!(ServingScope::from_roles(&some.to_roles()), Some(some));
    }
}
