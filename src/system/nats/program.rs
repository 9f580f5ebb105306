//! Where nats-server is, which version it is, and how to get it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::system::Availability;
use crate::system::process::printed_version;

/// What would make nats-server available.
const REMEDY: &str = "run scripts/get-nats-server.sh, or apt-get install nats-server, or go install \
                      github.com/nats-io/nats-server/v2@latest, or set MSGBENCH_NATS_SERVER to its path";

/// Where scripts/get-nats-server.sh puts what it builds, from the folder of the project.
const FETCHED: &str = ".cache/nats/nats-server";

/// Whether a nats-server is to be had: at `explicit` if given, else where the script put it, else
/// in the folders of `path`, else in `/usr/sbin`.
pub fn availability(explicit: Option<OsString>, path: Option<OsString>) -> Availability {
    let missing = |reason: String| Availability::Missing { reason, remedy: REMEDY.to_owned() };
    let program = match explicit {
        Some(program) => PathBuf::from(program),
        None => {
            let folders: Vec<PathBuf> = std::env::split_paths(&path.unwrap_or_default()).collect();
            let fetched = std::env::current_dir().map(|dir| dir.join(FETCHED)).unwrap_or_default();
            let mut candidates =
                std::iter::once(fetched).chain(folders.iter().map(|folder| folder.join("nats-server")));
            match candidates.find(|file| file.is_file()) {
                Some(program) => program,
                // Debian puts it there, and the PATH of an ordinary user leaves that folder out.
                None if Path::new("/usr/sbin/nats-server").is_file() => PathBuf::from("/usr/sbin/nats-server"),
                None => {
                    return missing("nats-server is neither in .cache/nats, nor in PATH, nor in /usr/sbin".to_owned());
                }
            }
        }
    };
    match version(&program) {
        Ok(version) => Availability::Found { program, version },
        Err(reason) => missing(format!("{} does not run: {reason}", program.display())),
    }
}

/// The version a nats-server prints, without its `nats-server: v`.
fn version(program: &Path) -> Result<String, String> {
    let text = printed_version(program, &["--version"])?;
    let word = text.split_whitespace().last().ok_or("--version printed nothing")?;
    Ok(word.trim_start_matches('v').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_its_remedy() {
        let Availability::Missing { reason, remedy } = availability(Some("/no/such/server".into()), None) else {
            panic!("found what is not there");
        };
        assert!(reason.starts_with("/no/such/server does not run: No such file"), "{reason}");
        for way in ["scripts/get-nats-server.sh", "apt-get install nats-server", "go install", "MSGBENCH_NATS_SERVER"] {
            assert!(remedy.contains(way), "{remedy}");
        }
    }
}
