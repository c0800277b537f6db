//! Nobody grants more than they have (API.md section 1).

use tsp_api::ErrorCode;
use tsp_core::Timestamp;
use tsp_core::duration::format_duration;
use tsp_store::catalog::{ApiKey, RateLimit, Scope};

use super::{Caller, CallerKind};
use crate::error::{ApiError, ApiResult};

/// What a new key could do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant<'a> {
    pub(crate) scopes: &'a [Scope],
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) rate_limit: Option<RateLimit>,
}

impl Caller {
    /// 403 for a key that could do more than the caller's own, for longer, or more often.
    pub(crate) fn require_grantable(&self, grant: Grant<'_>) -> ApiResult<()> {
        if let Some(scope) = grant.scopes.iter().find(|&&scope| !self.grants(scope)) {
            let detail = format!("the scope `{}` cannot be granted by a key that lacks it", scope.as_str());
            return Err(ApiError::new(ErrorCode::Forbidden, detail));
        }
        let CallerKind::Key(known) = &self.who else { return Ok(()) };
        check_bounds(&known.key, grant)
    }
}

fn check_bounds(own: &ApiKey, grant: Grant<'_>) -> ApiResult<()> {
    if let Some(most) = own.expires_at
        && grant.expires_at.is_none_or(|at| at > most)
    {
        let message = format!("must be at most `{most}`, when the key that grants it expires");
        return Err(ApiError::field(ErrorCode::Forbidden, "expires_at", message));
    }
    if let Some(most) = own.rate_limit
        && !grant.rate_limit.is_some_and(|limit| is_within(limit, most))
    {
        let (count, per) = (most.count, format_duration(most.per));
        let message = format!(
            "must be at most `{{\"count\": {count}, \"per\": \"{per}\"}}`, that of the key that grants it"
        );
        return Err(ApiError::field(ErrorCode::Forbidden, "rate_limit", message));
    }
    Ok(())
}

/// Neither more at once nor more in the long run.
fn is_within(limit: RateLimit, most: RateLimit) -> bool {
    let rate = |a: RateLimit, b: RateLimit| i128::from(a.count) * i128::from(b.per.ms());
    limit.count <= most.count && rate(limit, most) <= rate(most, limit)
}

#[cfg(test)]
mod tests {
    use tsp_core::Millis;

    use super::*;

    #[test]
    fn a_rate_is_within_another_at_once_and_in_the_long_run() {
        let limit = |count: u32, seconds: i64| RateLimit { count, per: Millis::from_secs(seconds) };
        let most = limit(10, 60);
        for (given, good) in [
            (limit(10, 60), true),
            (limit(1, 6), true),
            (limit(10, 61), true),
            (limit(10, 59), false),
            (limit(1, 5), false),
            (limit(11, 660), false),
        ] {
            assert_eq!(is_within(given, most), good, "{given:?}");
        }
    }
}
