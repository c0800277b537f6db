//! How much is claimed of whom, in one transaction.

use std::collections::hash_map::Entry;

use tsp_core::ids::{IdMap, IdSet};
use tsp_core::{ConfigId, Timestamp};
use tsp_store::fetching::ClaimRequest;

use crate::flow::Flow;
use crate::holds::{Reason, Subject};
use crate::turns::Rank;

/// Configs claimed from in one transaction; the rest goes in the next turn, which follows at once.
const CONFIGS_PER_CLAIM: usize = 256;
/// About so many rows in one claim, because begins and finishes wait behind it in the store. Its configs get
/// `ROWS_PER_TURN` in turns, each at least once and none more than `ROWS_PER_CONFIG_MAX`.
const ROWS_PER_CLAIM: usize = 4_096;
const ROWS_PER_CONFIG_MAX: usize = 512;
const ROWS_PER_TURN: usize = 64;

/// The ranks that configs were claimed from at.
pub(crate) type Ranks = IdMap<ConfigId, Rank>;

impl Flow {
    /// What to claim, turn by turn (see [`crate::turns::Turns`]); a config that cannot be claimed from leaves
    /// the order, and one that the config cache does not have becomes `unknown`.
    pub(crate) fn wants(
        &mut self,
        unknown: &mut IdSet<ConfigId>,
        now: Timestamp,
    ) -> (Vec<ClaimRequest>, Ranks) {
        let due_by = now.plus(self.lookahead);
        let config_cache = self.config_cache.clone();
        let rank = |id| config_cache.config(id).map_or_else(Rank::default, |config| Rank::of(&config));
        self.due.ripen(now.plus(self.half_lookahead()), rank);
        let (mut requests, mut ranks, mut indexes) =
            (Vec::<ClaimRequest>::new(), Ranks::default(), IdMap::default());
        let (mut planned, mut served) = (0, Vec::new());
        while requests.len() < CONFIGS_PER_CLAIM
            && let Some((id, rank)) = self.due.next_due()
        {
            let index = match indexes.entry(id) {
                Entry::Occupied(index) => *index.get(),
                Entry::Vacant(index) => {
                    if !self.may_claim(id, planned, unknown, now) {
                        continue;
                    }
                    ranks.insert(id, rank);
                    requests.push(ClaimRequest { config: id, due_by, limit: 0 });
                    *index.insert(requests.len() - 1)
                }
            };
            let limit = &mut requests[index].limit;
            let most = self.window.room_for(id, planned - *limit).min(ROWS_PER_CONFIG_MAX);
            let more = most.saturating_sub(*limit).min(ROWS_PER_TURN);
            let enough = planned >= ROWS_PER_CLAIM && *limit > 0;
            if more == 0 || enough {
                served.push((id, rank));
                continue;
            }
            *limit += more;
            planned += more;
            self.due.wait_again(id, rank);
        }
        for (id, rank) in served {
            self.due.wait_again(id, rank);
        }
        (requests, ranks)
    }

    fn may_claim(
        &mut self,
        id: ConfigId,
        planned: usize,
        unknown: &mut IdSet<ConfigId>,
        now: Timestamp,
    ) -> bool {
        let Some(config) = self.config_cache.config(id) else {
            self.due.set(id, None);
            unknown.insert(id);
            return false;
        };
        if !config.runnable() {
            self.see(&config, now);
            return false;
        }
        if self.window.room_for(id, planned) == 0 {
            self.hold(Subject::Config(id), Reason::Slots, None);
            return false;
        }
        true
    }
}
