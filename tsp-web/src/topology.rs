//! Who serves, and who does what (API.md section 4b): one file for each operation.

mod nodes;
mod queues;
mod shards;

use std::sync::Arc;

use tsp_api::list::Page;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiResult;
use crate::query::Query;
use crate::state::WebState;

pub(crate) fn routes() -> OpenApiRouter<Arc<WebState>> {
    OpenApiRouter::new()
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(shards::list_shards))
        .routes(routes!(queues::list_queues))
}

/// Which part of a list is asked for.
struct PageRequest {
    query: Query,
    limit: usize,
    /// Where the last page stopped.
    after: Option<String>,
}

impl PageRequest {
    fn read(mut query: Query) -> ApiResult<Self> {
        let limit = query.limit();
        let after = query.cursor()?;
        query.finish()?;
        Ok(Self { query, limit, after })
    }

    /// The page of `all`, in the order of `position`: a text that differs from item to item and sorts as
    /// they should.
    fn page<T, W>(&self, all: Vec<T>, position: impl Fn(&T) -> String, shown: impl Fn(T) -> W) -> Page<W> {
        let mut left: Vec<(String, T)> = all.into_iter().map(|item| (position(&item), item)).collect();
        left.retain(|(at, _)| self.after.as_ref().is_none_or(|after| at > after));
        left.sort_by(|(a, _), (b, _)| a.cmp(b));
        let more = left.len() > self.limit;
        left.truncate(self.limit);
        let next_cursor = left.last().filter(|_| more).map(|(at, _)| self.query.next_cursor(at));
        Page { items: left.into_iter().map(|(_, item)| shown(item)).collect(), next_cursor }
    }
}
