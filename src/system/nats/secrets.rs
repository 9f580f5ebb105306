//! Throw-away certificates and credentials of one trial, written into its folder and gone with it;
//! and those of intruders, which the server must not accept.
//!
//! Nothing here protects anything: it lets the cost of TLS and of each way of authentication be
//! measured without asking the user for keys. Files are readable by their owner alone all the same.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nkeys::KeyPair;
use serde_json::{Map, Value};

use super::jwt::{Operator, creds};
use super::options::{LaunchAuth, LaunchOptions, LaunchTls};
use crate::plan::Intruder;
use crate::system::certificates::Authority;

/// The subjects that the clients of a trial use: those of core messaging, of streams, and answers.
const OWN: [&str; 10] = ["mb.>", "mbr.>", "mbs.>", "mba.>", "mbi.>", "mbp.>", "mbd.>", "_INBOX.>", "$JS.>", "$KV.>"];
/// What a user who has nothing to do with the trial may use.
const OUTSIDE: [&str; 1] = ["outside.>"];

/// What the server's configuration says, and what the client needs to be let in.
#[derive(Debug, Default)]
pub struct NatsCredentials {
    /// Blocks for the configuration file.
    pub config: String,
    /// Options of the client.
    pub client: Map<String, Value>,
    /// Who is not to be let in.
    pub intruders: Vec<Intruder>,
    /// A line for the port that leaf nodes connect to.
    pub leaf_listen: String,
    /// What stands before the host in a leaf node's address of its hub.
    pub leaf_user: String,
    /// What a leaf node says of its connection besides the address.
    pub leaf_remote: String,
}

impl NatsCredentials {
    /// Makes what the options `auth`, `permissions` and `tls` ask for, in `dir`.
    ///
    /// # Errors
    /// When a file cannot be written or a key cannot be made.
    pub fn make(dir: &Path, launch: &LaunchOptions, names: &[String]) -> io::Result<Self> {
        let mut secrets = Self::default();
        secrets.stranger("without credentials", []);
        let rights: &[&str] = if launch.permissions { &OWN } else { &[] };
        match launch.auth {
            LaunchAuth::None => {}
            LaunchAuth::Password => secrets.password(rights),
            LaunchAuth::Token => secrets.token(),
            LaunchAuth::Nkey => secrets.nkey(dir, rights)?,
            LaunchAuth::Creds => secrets.creds(dir, rights)?,
        }
        if !matches!(launch.auth, LaunchAuth::None | LaunchAuth::Creds) {
            let password = random();
            secrets.leaf_listen = format!("  authorization {{ user: \"leaf\", password: \"{password}\" }}\n");
            secrets.leaf_user = format!("leaf:{password}@");
        }
        if launch.tls != LaunchTls::None {
            secrets.certificates(dir, launch, names)?;
        }
        Ok(secrets)
    }

    fn stranger<const N: usize>(&mut self, name: &str, client: [(&str, Value); N]) {
        let client = client.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.intruders.push(Intruder { name: name.to_owned(), client, isolated: false });
    }

    fn password(&mut self, rights: &[&str]) {
        let (own, outside) = (random(), random());
        self.users(&[
            format!("user: \"msgbench\", password: \"{own}\"{}", permissions(rights)),
            format!("user: \"outside\", password: \"{outside}\"{}", permissions(&OUTSIDE)),
        ]);
        self.client.insert("user".into(), "msgbench".into());
        self.client.insert("password".into(), own.into());
        self.stranger("with a wrong password", [("user", "msgbench".into()), ("password", random().into())]);
        self.stranger("as a user without rights", [("user", "outside".into()), ("password", outside.into())]);
    }

    fn token(&mut self) {
        let token = random();
        self.config += &format!("authorization {{ token: \"{token}\" }}\n");
        self.client.insert("token".into(), token.into());
        self.stranger("with a wrong token", [("token", random().into())]);
    }

    fn nkey(&mut self, dir: &Path, rights: &[&str]) -> io::Result<()> {
        let (own, unknown, outside) = (KeyPair::new_user(), KeyPair::new_user(), KeyPair::new_user());
        let user = |key: &KeyPair, rights: &[&str]| format!("nkey: \"{}\"{}", key.public_key(), permissions(rights));
        self.users(&[user(&own, rights), user(&outside, &OUTSIDE)]);
        let seed = |name: &str, key: &KeyPair| -> io::Result<Value> {
            Ok(text(&write(dir, name, &key.seed().map_err(io::Error::other)?)?))
        };
        self.client.insert("nkey".into(), seed("user.nk", &own)?);
        self.stranger("with an unknown key", [("nkey", seed("unknown.nk", &unknown)?)]);
        self.stranger("as a user without rights", [("nkey", seed("outside.nk", &outside)?)]);
        Ok(())
    }

    fn creds(&mut self, dir: &Path, rights: &[&str]) -> io::Result<()> {
        let file = |name: &str, creds: Result<String, nkeys::error::Error>| -> io::Result<PathBuf> {
            write(dir, name, &creds.map_err(io::Error::other)?)
        };
        let operator = Operator::new();
        let (own, neighbour, foreign) = (KeyPair::new_account(), KeyPair::new_account(), KeyPair::new_account());
        self.config += &operator.config(&[&own, &neighbour]).map_err(io::Error::other)?;
        let user = file("user.creds", creds(&own, rights))?;
        self.leaf_remote = format!(", credentials: \"{}\", account: \"{}\"", user.display(), own.public_key());
        self.client.insert("creds".into(), text(&user));
        self.stranger("of an unknown account", [("creds", text(&file("foreign.creds", creds(&foreign, &[]))?))]);
        self.stranger("as a user without rights", [("creds", text(&file("outside.creds", creds(&own, &OUTSIDE))?))]);
        self.stranger("of another account", [("creds", text(&file("neighbour.creds", creds(&neighbour, &[]))?))]);
        if let Some(last) = self.intruders.last_mut() {
            last.isolated = true;
        }
        Ok(())
    }

    fn users(&mut self, users: &[String]) {
        let each: Vec<String> = users.iter().map(|user| format!("    {{ {user} }}\n")).collect();
        self.config += &format!("authorization {{\n  users: [\n{}  ]\n}}\n", each.concat());
    }

    fn certificates(&mut self, dir: &Path, launch: &LaunchOptions, names: &[String]) -> io::Result<()> {
        let authority = Authority::new()?;
        let keep = |name: &str, pem: &str| write(dir, name, pem);
        let ca = keep("ca.pem", authority.certificate())?;
        let (cert, key) = authority.server(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        let (cert, key) = (keep("server.pem", &cert)?, keep("server.key", &key)?);
        let mutual = launch.tls == LaunchTls::Mutual;
        let verify = if mutual { ", verify: true" } else { "" };
        self.config += &format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\"{verify} }}\n",
            cert.display(),
            key.display(),
            ca.display()
        );
        self.client.insert("ca".into(), text(&ca));
        if mutual {
            let client = |authority: &Authority, name: &str| -> io::Result<[(String, Value); 2]> {
                let (cert, key) = authority.client("msgbench")?;
                let (cert, key) = (keep(&format!("{name}.pem"), &cert)?, keep(&format!("{name}.key"), &key)?);
                Ok([("cert".into(), text(&cert)), ("key".into(), text(&key))])
            };
            // Whoever is refused for other reasons has a good certificate; two have none, or a bad
            // one, and all else that is wanted.
            let good = client(&authority, "client")?;
            if launch.auth == LaunchAuth::None {
                self.intruders.clear();
            }
            self.intruders.iter_mut().for_each(|it| it.client.extend(good.clone()));
            let rest = self.client.clone();
            for (name, more) in [
                ("without a certificate", None),
                ("with a certificate of another authority", Some(client(&Authority::new()?, "foreign")?)),
            ] {
                let mut own = rest.clone();
                own.extend(more.into_iter().flatten());
                self.intruders.push(Intruder { name: name.to_owned(), client: own, isolated: false });
            }
            self.client.extend(good);
        }
        // They all know the server.
        self.intruders.iter_mut().for_each(|it| drop(it.client.insert("ca".into(), text(&ca))));
        Ok(())
    }
}

/// The permissions of a user in a configuration; all where no subject is named.
fn permissions(subjects: &[&str]) -> String {
    if subjects.is_empty() {
        return String::new();
    }
    let list: Vec<String> = subjects.iter().map(|s| format!("\"{s}\"")).collect();
    let allow = format!("{{ allow: [{}] }}", list.join(", "));
    format!(", permissions: {{ publish: {allow}, subscribe: {allow} }}")
}

fn random() -> String {
    KeyPair::new_user().public_key()
}

fn text(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

fn write(dir: &Path, name: &str, content: &str) -> io::Result<PathBuf> {
    let path = dir.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(content.as_bytes())?;
    Ok(path)
}
