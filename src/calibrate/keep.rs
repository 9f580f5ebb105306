//! Where certificates are kept, so that later runs on the same host cite them.
//!
//! `MSGBENCH_CERTIFICATE` names the one file to write and to read; set and empty, nothing is kept
//! and nothing cited. Without it: `$XDG_DATA_HOME/msgbench/certificates` (`$HOME/.local/share/...`
//! where that is not set), one file for each host and build profile, named after the host's
//! fingerprint, so that the newest replaces the one before it; at most `MOST` (32) files, of which
//! the oldest goes first: a home directory that many hosts share does not grow.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::certificate::{Certificate, ClaimVerdict, SCHEMA};
use crate::record::{Calibration, Host};

/// Files in the folder at most.
const MOST: usize = 32;
/// A file above this is no certificate.
const LARGEST: u64 = 4 << 20;
/// Names the file.
pub const VARIABLE: &str = "MSGBENCH_CERTIFICATE";

/// The place where the certificate of this host and build is kept; `None` where there is none.
pub fn place(host: &Host, profile: &str, get: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(file) = get(VARIABLE) {
        return (!file.is_empty()).then(|| file.into());
    }
    let absolute = |name: &str| get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(data.join("msgbench/certificates").join(format!("{}-{profile}.json", host.fingerprint())))
}

/// Keeps a certificate at its place, whole or not at all.
///
/// # Errors
/// When the folder or the file cannot be written.
pub fn keep(certificate: &Certificate, json: &str, place: &Path) -> io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let fresh = place.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    std::fs::write(&fresh, json)?;
    std::fs::rename(&fresh, place)?;
    let ours = format!("{}-{}.json", certificate.host.fingerprint(), certificate.profile);
    if name == ours.as_str() {
        remove_old(folder)?;
    }
    Ok(())
}

/// Removes the oldest certificates above [`MOST`]; files of other names are left alone.
fn remove_old(folder: &Path) -> io::Result<()> {
    let ours = |path: &Path| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.split_once('-').is_some_and(|(fingerprint, rest)| {
            fingerprint.len() == 16 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) && rest.ends_with(".json")
        })
    };
    let mut all: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| ours(path))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    all.sort();
    for (_, path) in all.iter().rev().skip(MOST) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// What a run on this host cites; `Ok(None)` where nothing is kept, or it is of another host or
/// build.
///
/// # Errors
/// In words, when there is a file that is no certificate.
pub fn read(host: &Host, profile: &str, place: &Path) -> Result<Option<Calibration>, String> {
    let bad = |why: String| format!("{}: {why}; run `msgbench calibrate` again, or remove the file", place.display());
    match std::fs::metadata(place) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(bad(e.to_string())),
        Ok(found) if found.len() > LARGEST => return Err(bad("it is too large for a certificate".into())),
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(place).map_err(|e| bad(e.to_string()))?;
    let certificate: Certificate =
        serde_json::from_str(&text).map_err(|e| bad(format!("it is no certificate: {e}")))?;
    if certificate.schema != SCHEMA {
        return Err(bad(format!("its schema is `{}` and not `{SCHEMA}`", certificate.schema)));
    }
    let fits = certificate.host.fingerprint() == host.fingerprint() && certificate.profile == profile;
    Ok(fits.then(|| cited(&certificate)))
}

/// What is cited of a certificate.
fn cited(c: &Certificate) -> Calibration {
    let floor = c.experiments.iter().find(|e| e.number == 2);
    Calibration {
        started_at: c.started_at.clone(),
        form: c.form.word().into(),
        verdict: c.verdict().word().into(),
        version: c.version.clone(),
        profile: c.profile.clone(),
        max_trustworthy_rate: c.max_trustworthy_rate,
        floor_holds: floor.is_some_and(|e| e.verdict() == ClaimVerdict::Pass) && c.max_trustworthy_rate > 0.0,
        floor: c.floor.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::sample;
    use super::*;

    fn env(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
    }

    #[test]
    fn the_place_is_the_users_and_can_be_said() {
        let host = Host::default();
        let at = |get: &dyn Fn(&str) -> Option<OsString>| place(&host, "release", get);
        let name = format!("msgbench/certificates/{}-release.json", host.fingerprint());
        assert_eq!(at(&env(&[("MSGBENCH_CERTIFICATE", "x.json"), ("HOME", "/h")])), Some("x.json".into()));
        assert_eq!(at(&env(&[("MSGBENCH_CERTIFICATE", ""), ("HOME", "/h")])), None);
        assert_eq!(at(&env(&[("XDG_DATA_HOME", "/d"), ("HOME", "/h")])), Some(Path::new("/d").join(&name)));
        assert_eq!(
            at(&env(&[("XDG_DATA_HOME", "rel"), ("HOME", "/h")])),
            Some(Path::new("/h/.local/share").join(&name))
        );
        assert_eq!(at(&env(&[])), None);
    }

    #[test]
    fn what_is_kept_is_cited_on_the_same_host_and_by_the_same_build_only() {
        let dir = tempfile::tempdir().unwrap();
        let (c, file) = (sample(), dir.path().join("new/c.json"));
        assert_eq!(read(&c.host, "release", &file), Ok(None));
        keep(&c, &serde_json::to_string(&c).unwrap(), &file).unwrap();
        let cited = read(&c.host, "release", &file).unwrap().unwrap();
        assert_eq!((cited.verdict.as_str(), cited.form.as_str()), ("FAIL", "quick"));
        assert!(!cited.floor_holds, "the sample has no experiment of the floor");
        assert_eq!(cited.max_trustworthy_rate, c.max_trustworthy_rate);
        assert_eq!(read(&c.host, "debug", &file), Ok(None));
        assert_eq!(read(&Host { cpus: 64, ..c.host.clone() }, "release", &file), Ok(None));
        std::fs::write(&file, "{}").unwrap();
        assert!(read(&c.host, "release", &file).unwrap_err().contains("it is no certificate"));
    }

    #[test]
    fn the_folder_does_not_grow_and_other_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notes.json"), "mine").unwrap();
        for cpus in 1..=40 {
            let mut c = sample();
            c.host.cpus = cpus;
            let file = dir.path().join(format!("{}-release.json", c.host.fingerprint()));
            keep(&c, "{}", &file).unwrap();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), MOST + 1);
        assert!(dir.path().join("notes.json").exists());
    }
}
