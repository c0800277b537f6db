//! The part of a move in which the shard stands still, and the ways back and out.
use tokio::time::Instant;
use tsp_store::error::{Result, StoreError};

use crate::connection::fault::store_error;
use crate::connection::row::Row;
use crate::moving::checksum_diff::ChecksumDiff;
use crate::moving::mover::{Move, MoveStep};
use crate::moving::tables::{self, Stage, TABLES};
use crate::schema::migrate::part;

/// How often the rename is tried. It waits for open transactions and all others wait for it meanwhile, so
/// each wait is short.
const RENAME_TRIES: u32 = 20;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// The target's epochs begin so far above the source's: a process with an old map may still count there.
const EPOCHS_BEYOND: i64 = 1_000;

impl Move<'_> {
    pub(super) async fn cutover(&mut self) -> Result<()> {
        if tables::there(&mut self.target, Stage::Live, self.shard).await?.is_empty() {
            let started = Instant::now();
            self.rename_source().await?;
            self.step(MoveStep::Renamed)?;
            self.scan_all(Stage::Moved).await?;
            let mut rows = 0;
            for table in TABLES {
                let same = ChecksumDiff::new(&mut self.source, table, self.shard, Stage::Moved).await?;
                rows += same.count(&mut self.source, &mut self.target).await?;
            }
            tracing::info!(shard = self.shard.get(), rows, took = ?started.elapsed(), "the copy is complete");
            self.step(MoveStep::Complete)?;
        }
        self.install().await?;
        self.step(MoveStep::Installed)
    }

    /// Takes the tables out of use, and the leases with them.
    async fn rename_source(&mut self) -> Result<()> {
        let mut tries = 0;
        loop {
            let left = tables::there(&mut self.source, Stage::Live, self.shard).await?;
            tries += 1;
            match tables::rename(&mut self.source, self.shard, &left, Stage::Live, Stage::Moved).await {
                Ok(()) => break,
                Err(StoreError::Unavailable { .. }) if tries < RENAME_TRIES => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        let shard = self.shard.get();
        self.source.run(format!("-- leases_end\nDELETE FROM shard_lease WHERE shard = {shard}")).await?;
        Ok(())
    }

    /// Epochs above the source's, no leases, the versions of the schema, and last the names.
    async fn install(&mut self) -> Result<()> {
        let shard = self.shard.get();
        let read =
            format!("-- epoch_read\nSELECT COALESCE(MAX(epoch), 0) FROM shard_epoch WHERE shard = {shard}");
        let epoch = self.source.number(read).await?.saturating_add(EPOCHS_BEYOND);
        self.target
            .run(format!(
                "-- epoch_begin\nINSERT INTO shard_epoch (shard, epoch) VALUES ({shard}, {epoch}) \
                 ON DUPLICATE KEY UPDATE epoch = GREATEST(epoch, {epoch})"
            ))
            .await?;
        self.target.run(format!("-- leases_end\nDELETE FROM shard_lease WHERE shard = {shard}")).await?;
        self.copy_versions().await?;
        let left = tables::there(&mut self.target, Stage::Copy, self.shard).await?;
        tables::rename(&mut self.target, self.shard, &left, Stage::Copy, Stage::Live).await
    }

    /// The copies were made from the source's tables, so they have had its migrations.
    async fn copy_versions(&mut self) -> Result<()> {
        let part = part(self.shard);
        let rows = sqlx::query(
            "-- versions\nSELECT number, name, checksum, compatible_from, applied_at FROM schema_version
            WHERE part = ? ORDER BY number",
        )
        .bind(&part)
        .fetch_all(self.source.raw())
        .await
        .map_err(store_error)?;
        for row in rows.into_iter().map(Row) {
            sqlx::query(
                "-- version_put
                REPLACE INTO schema_version (part, number, name, checksum, compatible_from, applied_at)
                VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(&part)
            .bind(row.get::<i64>(0)?)
            .bind(row.get::<String>(1)?)
            .bind(row.get::<String>(2)?)
            .bind(row.get::<i64>(3)?)
            .bind(row.get::<i64>(4)?)
            .execute(self.target.raw())
            .await
            .map_err(store_error)?;
        }
        Ok(())
    }

    /// Back to where it was: the source's tables get their names again, the copy goes.
    pub(super) async fn undo(&mut self) -> Result<()> {
        if !tables::there(&mut self.target, Stage::Live, self.shard).await?.is_empty() {
            return Err(StoreError::Unusable(
                "the copy is in place, so the move can only be ended: run it again".to_owned(),
            ));
        }
        let moved = tables::there(&mut self.source, Stage::Moved, self.shard).await?;
        tables::rename(&mut self.source, self.shard, &moved, Stage::Moved, Stage::Live).await?;
        tables::drop_all(&mut self.target, Stage::Copy, self.shard).await?;
        self.forget_versions_at_target().await?;
        crate::schema::move_record::forget(&mut self.meta, self.shard).await?;
        self.step(MoveStep::Undone)
    }

    async fn forget_versions_at_target(&mut self) -> Result<()> {
        let part = part(self.shard);
        self.target.run(format!("-- versions_end\nDELETE FROM schema_version WHERE part = '{part}'")).await?;
        Ok(())
    }

    /// Its epochs stay: a shard that comes back counts on from them.
    pub(super) async fn drop_source(&mut self) -> Result<()> {
        let (shard, part) = (self.shard.get(), part(self.shard));
        tables::drop_all(&mut self.source, Stage::Moved, self.shard).await?;
        self.source.run(format!("-- leases_end\nDELETE FROM shard_lease WHERE shard = {shard}")).await?;
        self.source.run(format!("-- versions_end\nDELETE FROM schema_version WHERE part = '{part}'")).await?;
        Ok(())
    }
}
