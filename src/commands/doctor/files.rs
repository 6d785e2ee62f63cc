//! Checks of files: who can read secrets and the database, and where an SQLite database is.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};
use rustix::process::geteuid;

use super::finding::Finding;
use crate::config::{Database, ManagementConfig, RawSettings};

/// Free space below which an SQLite database is in danger of a full disk, in bytes.
const LITTLE_SPACE: u64 = 256 * 1024 * 1024;

/// Permissions of a file.
#[derive(Clone, Copy, Debug)]
struct Permissions {
    mode: u32,
    /// The owner of the file runs this program, and can change the mode.
    is_own: bool,
}

/// Checks the files of the secrets and of the database. Without `management`, the service refuses
/// the settings that name the latter.
pub(super) fn check(settings: &RawSettings, management: Option<&ManagementConfig>) -> Vec<Finding> {
    let mut findings: Vec<_> = secret_files(settings, management)
        .into_iter()
        .filter_map(|(name, path)| check_permissions("files.secrets", &name, &path))
        .collect();
    if let Some(Database::Sqlite(path)) = management.map(|config| &config.database.database) {
        // The log has the latest rows.
        for suffix in ["", "-wal"] {
            let mut path = path.clone().into_os_string();
            path.push(suffix);
            let name = path.display().to_string();
            findings.extend(check_permissions("files.database", &name, Path::new(&path)));
        }
        findings.extend(check_folder(path));
        findings.extend(check_journal(path));
    }
    findings
}

/// Returns the files with secrets that exist, each with the name that settings have for it.
fn secret_files(
    settings: &RawSettings,
    management: Option<&ManagementConfig>,
) -> Vec<(String, PathBuf)> {
    let kept = management.and_then(|config| config.kept_secret.clone());
    let kept = kept.map(|path| (path.display().to_string(), path));
    let named = settings.secret_files().unwrap_or_default().into_iter();
    named.map(|file| (file.name, file.path)).chain(kept).collect()
}

/// Checks the permissions of a file. Returns `None` if there is none.
fn check_permissions(check: &'static str, name: &str, path: &Path) -> Option<Finding> {
    let metadata = fs::metadata(path).ok()?;
    let is_own = metadata.uid() == geteuid().as_raw();
    Some(judge_permissions(check, name, Permissions { mode: metadata.mode(), is_own }))
}

fn judge_permissions(check: &'static str, name: &str, permissions: Permissions) -> Finding {
    const ADVICE: &str = "make the user of the service its only reader, with chown and chmod 600 \
                          (docs/operations.md#rotate-secrets)";
    let Permissions { mode, is_own } = permissions;
    if mode & 0o006 != 0 {
        let message = format!("{name}: every user of this machine can read or change the file");
        return Finding::error(check, message, ADVICE);
    }
    // A file of another owner is often read by its group, such as a mounted secret.
    if mode & 0o060 != 0 && is_own {
        let message = format!("{name}: its group can read or change the file");
        return Finding::warning(check, message, ADVICE);
    }
    Finding::ok(check, format!("{name}: other users cannot read the file"))
}

/// Checks the folder of an SQLite database, or the one that it will be made in.
fn check_folder(database: &Path) -> Vec<Finding> {
    const WRITABLE: &str = "files.folder";
    let Some(folder) = existing_folder(database) else { return Vec::new() };
    let name = folder.display();
    let writable = match access(&folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Finding::ok(WRITABLE, format!("{name} can be written")),
        Err(error) => Finding::error(
            WRITABLE,
            format!("{name} cannot be written: {error}; SQLite needs it for the files of its log"),
            "give the folder to the user of the service \
             (docs/operations.md#when-the-service-does-not-start)",
        ),
    };
    let space = statvfs(&folder).ok();
    let space = space.map(|system| judge_space(system.f_bavail.saturating_mul(system.f_frsize)));
    [Some(writable), check_file_system(&folder), space].into_iter().flatten().collect()
}

/// Returns the folder of a file, or the nearest one above it that exists.
fn existing_folder(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    file.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned)
}

/// Checks the journal mode in the header of an SQLite file. SQLite itself does not tell it without
/// files beside the database. It has not opened the file yet: to close the file here would release
/// its locks.
fn check_journal(database: &Path) -> Option<Finding> {
    const CHECK: &str = "files.journal";
    /// Position of the version that a reader needs (SQLite, "Database File Format", 1.3.3).
    const READ_VERSION: usize = 19;
    const WAL: u8 = 2;
    let mut header = [0; READ_VERSION + 1];
    File::open(database).ok()?.read_exact(&mut header).ok()?;
    if header[READ_VERSION] == WAL {
        return Some(Finding::ok(CHECK, "the journal mode is WAL"));
    }
    Some(Finding::warning(
        CHECK,
        "the journal mode is not WAL, so reads and writes of the service wait for each other",
        "start the service, which sets it; a file system that cannot do it is none for SQLite \
         (docs/operations.md#when-the-database-fails)",
    ))
}

fn judge_space(free: u64) -> Finding {
    const CHECK: &str = "files.space";
    let message = format!("free space for the database: {} MiB", free / 1024 / 1024);
    if free >= LITTLE_SPACE {
        return Finding::ok(CHECK, message);
    }
    let advice = "make room: every write fails on a full disk \
                  (docs/operations.md#when-the-database-fails)";
    Finding::warning(CHECK, message, advice)
}

#[cfg(target_os = "linux")]
fn check_file_system(folder: &Path) -> Option<Finding> {
    let system = rustix::fs::statfs(folder).ok()?;
    // The type is a number of 32 bits, which some targets extend with its sign.
    let magic = u32::try_from(i128::from(system.f_type) & 0xffff_ffff).ok()?;
    Some(judge_file_system(magic))
}

#[cfg(not(target_os = "linux"))]
fn check_file_system(_: &Path) -> Option<Finding> {
    None
}

/// Judges the type of a file system, by its number in `statfs(2)`.
#[cfg(target_os = "linux")]
fn judge_file_system(magic: u32) -> Finding {
    const CHECK: &str = "files.file_system";
    const NETWORK: [(u32, &str); 7] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0x0102_1997, "9p"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
    ];
    match NETWORK.iter().find(|(number, _)| *number == magic) {
        None => Finding::ok(CHECK, "the file system of the database is no network file system"),
        Some((_, name)) => Finding::error(
            CHECK,
            format!("the database is on {name}: the locks of SQLite do not protect it there"),
            "move it to a local disk, or use PostgreSQL \
             (docs/operations.md#move-from-sqlite-to-postgresql)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn others_must_not_read_and_the_group_should_not() {
        let severity = |mode, is_own| {
            judge_permissions("files.secrets", ".env", Permissions { mode, is_own }).severity
        };
        for (mode, own, foreign) in [
            (0o100_600, Severity::Ok, Severity::Ok),
            (0o100_400, Severity::Ok, Severity::Ok),
            (0o100_640, Severity::Warning, Severity::Ok),
            (0o100_440, Severity::Warning, Severity::Ok),
            (0o100_644, Severity::Error, Severity::Error),
            (0o100_602, Severity::Error, Severity::Error),
        ] {
            assert_eq!((severity(mode, true), severity(mode, false)), (own, foreign), "{mode:o}");
        }
    }

    #[test]
    fn little_space_is_a_warning() {
        assert_eq!(judge_space(LITTLE_SPACE).severity, Severity::Ok);
        assert_eq!(judge_space(LITTLE_SPACE - 1).severity, Severity::Warning);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn network_file_system_is_an_error() {
        const EXT4: u32 = 0xef53;
        assert_eq!(judge_file_system(0x6969).severity, Severity::Error);
        assert_eq!(judge_file_system(EXT4).severity, Severity::Ok);
    }
}
