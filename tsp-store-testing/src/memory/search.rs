//! Search: every row of the scope in the wanted order, filtered. Slow and plainly right.

use std::cmp::Reverse;

use tsp_core::Timestamp;
use tsp_core::task::Task;
use tsp_store::search::{Bookmark, Order, Page, ROWS_READ_MAX, Scope, TaskQuery};

use super::state::State;

impl State {
    pub(super) fn search(&self, query: &TaskQuery) -> Page {
        let open = self.rows.all_open().filter(|_| query.order != Order::EndedDesc);
        let ended = self.rows.all_ended().filter(|_| query.order != Order::DueAsc);
        let in_scope = open.chain(ended).filter(|task| self.in_scope(task, &query.scope));
        let mut rows: Vec<(Bookmark, &Task)> = in_scope
            .map(|task| (bookmark(task, query.order), task))
            .filter(|row| is_after(row.0, query))
            .collect();
        rows.sort_by_key(|(mark, _)| (mark.at, mark.id));
        if is_descending(query.order) {
            rows.sort_by_key(|(mark, _)| Reverse((mark.at, mark.id)));
        }

        let mut page = Page::default();
        for (read, (mark, task)) in rows.iter().enumerate() {
            if matches(task, query) {
                page.tasks.push((*task).clone());
            }
            let full = page.tasks.len() >= query.limit || read + 1 >= ROWS_READ_MAX;
            if full && read + 1 < rows.len() {
                page.next = Some(*mark);
            }
            if full {
                break;
            }
        }
        page
    }

    fn in_scope(&self, task: &Task, scope: &Scope) -> bool {
        match scope {
            Scope::Config(config) => task.config == *config,
            Scope::Configs(configs) => configs.contains(&task.config),
            Scope::App(app) => {
                self.config_cache.config(task.config).is_some_and(|config| config.app_id == *app)
            }
        }
    }
}

fn is_descending(order: Order) -> bool {
    matches!(order, Order::IdDesc | Order::EndedDesc)
}

fn bookmark(task: &Task, order: Order) -> Bookmark {
    let at = match order {
        Order::IdDesc | Order::IdAsc => task.id.get(),
        Order::EndedDesc => task.ended_at.unwrap_or_default().ms(),
        Order::DueAsc => task.due_at.ms(),
    };
    Bookmark { at, id: task.id }
}

fn is_after(mark: Bookmark, query: &TaskQuery) -> bool {
    let Some(after) = query.after else { return true };
    let (mark, after) = ((mark.at, mark.id), (after.at, after.id));
    if is_descending(query.order) { mark < after } else { mark > after }
}

fn matches(task: &Task, query: &TaskQuery) -> bool {
    let within = |at: Timestamp, from: Option<Timestamp>, to: Option<Timestamp>| {
        from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to)
    };
    query.key.as_ref().is_none_or(|key| task.key.as_ref() == Some(key))
        && (query.statuses.is_empty() || query.statuses.contains(&task.status))
        && (query.results.is_empty() || task.result.is_some_and(|result| query.results.contains(&result)))
        && within(task.due_at, query.due_from, query.due_to)
        && within(task.created_at, query.created_from, query.created_to)
        && query.parent.is_none_or(|parent| task.parent == Some(parent))
}
