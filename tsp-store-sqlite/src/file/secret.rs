//! The key that seals secrets at rest.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use tsp_store::documents::Sealer;
use tsp_store::error::{Result, StoreError};

use crate::connection::session::Session;
use crate::connection::statements::statements;
use crate::file::lock::beside;
use crate::file::private;
use crate::options::{DatabaseLocation, SqliteOptions};
use crate::schema::initialise::initialise_key;
use crate::schema::migrate::in_transaction;

statements! {
    FORGET = "-- secret_probe_forget
    DELETE FROM settings WHERE name = 'secret_probe'";

    /// Whether any config has a secret, which only the key it was sealed with opens.
    ANY_SECRET = "-- secret_any
    SELECT EXISTS (SELECT 1 FROM config WHERE json_extract(document, '$.signing_secrets[0]') IS NOT NULL
        OR json_extract(document, '$.target.secret_headers') IS NOT NULL
        OR json_extract(document, '$.target.tls.key') IS NOT NULL)";
}

/// The sealer of a store: under the key given, else under the one in `<database>.key`.
pub(crate) fn sealer(conn: Session<'_>, options: &SqliteOptions) -> Result<Sealer> {
    // In one transaction, so that of two processes that find no key the second finds the first one's.
    in_transaction(conn, |conn| {
        let (key, from) = match (&options.secret_key, &options.location) {
            (Some(key), _) => (*key, "the secret key of the settings".to_owned()),
            (None, DatabaseLocation::Memory) => (fresh_key()?, "the secret key".to_owned()),
            (None, DatabaseLocation::File(database)) => {
                let path = beside(database, "key");
                let key = match kept_key(&path)? {
                    Some(key) => key,
                    None => first_key(conn, &path)?,
                };
                (key, format!("the secret key in `{}`", path.display()))
            }
        };
        let sealer = Sealer::new(&key).map_err(StoreError::Internal)?;
        initialise_key(conn, &sealer, &from)?;
        Ok(sealer)
    })
}

/// The key of the file, if there is one.
fn kept_key(path: &Path) -> Result<Option<[u8; 32]>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let mut key = [0; 32];
            hex::decode_to_slice(text.trim(), &mut key)
                .map_err(|_| unusable(path, "does not hold 64 hexadecimal digits: put the old file back"))?;
            Ok(Some(key))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, &format!("cannot be read: {error}"))),
    }
}

/// Makes the key file of a database without secrets. With secrets a new key opens none of them.
fn first_key(conn: Session<'_>, path: &Path) -> Result<[u8; 32]> {
    if conn.prepare(ANY_SECRET)?.one([], |row| row.get(0))? {
        return Err(unusable(
            path,
            "is missing, and the secrets in this database open only with it: put the old key file back, or \
             give its text as `store.secret_key`; it belongs to every backup of the database",
        ));
    }
    let key = fresh_key()?;
    write_new(path, &key).map_err(|error| unusable(path, &format!("cannot be written: {error}")))?;
    // It was sealed with the key that is lost, and nothing else was.
    conn.prepare(FORGET)?.execute_one_or_none([])?;
    Ok(key)
}

fn unusable(path: &Path, why: &str) -> StoreError {
    StoreError::Unusable(format!("the key file `{}` {why}", path.display()))
}

/// All of the file or none of it, and never over another one.
fn write_new(path: &Path, key: &[u8; 32]) -> std::io::Result<()> {
    let draft = beside(path, &format!("{}.new", std::process::id()));
    let written = private::create(&draft).and_then(|mut file| {
        writeln!(file, "{}", hex::encode(key))?;
        file.sync_all()
    });
    let linked = written.and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    linked
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
        assert_eq!(kept_key(&path).unwrap(), None);
        let key = fresh_key().unwrap();
        write_new(&path, &key).unwrap();
        assert_ne!(key, [0; 32]);
        assert_eq!(kept_key(&path).unwrap(), Some(key));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(write_new(&path, &[1; 32]).is_err());
        assert_eq!(kept_key(&path).unwrap(), Some(key));
    }

    #[test]
    fn a_damaged_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        fs::write(&path, "not a key").unwrap();
        assert!(kept_key(&path).unwrap_err().to_string().contains("64 hexadecimal digits"));
    }
}
