//! The key that seals secrets at rest.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, OptionalExtension};

use crate::codec::Sealer;
use crate::error::{Result, StoreError};

use super::fault::exactly_one;
use super::lock::beside;
use super::options::{Place, SqliteOptions};

/// Sealed and kept in the settings, so that a wrong key is found at start and not at the first callback.
const PROBE: &str = "tsp";

/// The sealer of a store: under the key given, else under the one in `<database>.key`.
pub(super) fn sealer(conn: &Connection, options: &SqliteOptions) -> Result<Sealer> {
    let (key, from) = match (&options.secret_key, &options.place) {
        (Some(key), _) => (*key, "the secret key of the settings".to_owned()),
        (None, Place::Memory) => (fresh_key()?, "the secret key".to_owned()),
        (None, Place::File(database)) => {
            let path = beside(database, "key");
            (kept_key(&path)?, format!("the secret key in `{}`", path.display()))
        }
    };
    let sealer = Sealer::new(&key).map_err(StoreError::Internal)?;
    probe(conn, &sealer, &from)?;
    Ok(sealer)
}

fn probe(conn: &Connection, sealer: &Sealer, from: &str) -> Result<()> {
    let stored: Option<String> = conn
        .query_row("-- secret_probe\nSELECT value FROM settings WHERE name = 'secret_probe'", [], |row| {
            row.get(0)
        })
        .optional()?;
    if let Some(stored) = stored {
        return match sealer.open(&stored) {
            Ok(text) if text == PROBE => Ok(()),
            _ => Err(StoreError::Unusable(format!(
                "{from} is not the one that this database's secrets were sealed with: give the old one \
                 (`store.secret_key`), or put the old key file back"
            ))),
        };
    }
    let sealed = sealer.seal(PROBE).map_err(StoreError::Internal)?;
    let changed = conn.execute(
        "-- secret_probe_set\nINSERT INTO settings (name, value) VALUES ('secret_probe', ?)",
        [sealed],
    )?;
    exactly_one(changed, "secret_probe_set")
}

/// The key of the file; makes the file if there is none.
fn kept_key(path: &Path) -> Result<[u8; 32]> {
    let unusable = |why: String| StoreError::Unusable(format!("the key file `{}` {why}", path.display()));
    match fs::read_to_string(path) {
        Ok(text) => {
            let mut key = [0; 32];
            hex::decode_to_slice(text.trim(), &mut key).map_err(|_| {
                unusable("does not hold 64 hexadecimal digits: put the old file back".to_owned())
            })?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = fresh_key()?;
            match write_new(path, &key) {
                Ok(()) => Ok(key),
                // Another process was first; its key counts.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => kept_key(path),
                Err(error) => Err(unusable(format!("cannot be written: {error}"))),
            }
        }
        Err(error) => Err(unusable(format!("cannot be read: {error}"))),
    }
}

/// All of the file or none of it, and never over another one.
fn write_new(path: &Path, key: &[u8; 32]) -> std::io::Result<()> {
    let draft = beside(path, &format!("{}.new", std::process::id()));
    let written = private(&draft).and_then(|mut file| {
        writeln!(file, "{}", hex::encode(key))?;
        file.sync_all()
    });
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    linked
}

/// A new file that only this user can read.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn fresh_key() -> Result<[u8; 32]> {
    let mut key = [0; 32];
    let filled = SystemRandom::new().fill(&mut key);
    filled.map_err(|_| StoreError::Unusable("the system gives no random bytes".to_owned()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_file_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tsp.db.key");
        let key = kept_key(&path).unwrap();
        assert_ne!(key, [0; 32]);
        assert_eq!(kept_key(&path).unwrap(), key);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(write_new(&path, &[1; 32]).is_err());
        assert_eq!(kept_key(&path).unwrap(), key);
    }

    #[test]
    fn a_damaged_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        fs::write(&path, "not a key").unwrap();
        assert!(kept_key(&path).unwrap_err().to_string().contains("64 hexadecimal digits"));
    }
}
