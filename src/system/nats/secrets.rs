//! Throw-away certificates and credentials of one trial, written into its folder and gone with it.
//!
//! Nothing here protects anything: it lets the cost of TLS and of each way of authentication be
//! measured without asking the user for keys. Files are readable by their owner alone all the same.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
use serde_json::{Map, Value, json};

use super::options::{LaunchAuth, LaunchOptions, LaunchTls};

/// What the server's configuration says, and what the client needs to be let in.
#[derive(Debug, Default)]
pub struct NatsCredentials {
    /// Blocks for the configuration file.
    pub config: String,
    /// Options of the client.
    pub client: Map<String, Value>,
    /// A line for the port that leaf nodes connect to.
    pub leaf_listen: String,
    /// What stands before the host in a leaf node's address of its hub.
    pub leaf_user: String,
    /// What a leaf node says of its connection besides the address.
    pub leaf_remote: String,
}

impl NatsCredentials {
    /// Makes what the options `auth` and `tls` ask for, in `dir`.
    ///
    /// # Errors
    /// When a file cannot be written or a key cannot be made.
    pub fn make(dir: &Path, launch: &LaunchOptions) -> io::Result<Self> {
        let mut secrets = Self::default();
        secrets.auth(dir, launch.auth)?;
        if launch.tls != LaunchTls::None {
            secrets.certificates(dir, launch.tls)?;
        }
        Ok(secrets)
    }

    fn auth(&mut self, dir: &Path, auth: LaunchAuth) -> io::Result<()> {
        let random = || KeyPair::new_user().public_key();
        if !matches!(auth, LaunchAuth::None | LaunchAuth::Creds) {
            let password = random();
            self.leaf_listen = format!("  authorization {{ user: \"leaf\", password: \"{password}\" }}\n");
            self.leaf_user = format!("leaf:{password}@");
        }
        match auth {
            LaunchAuth::None => {}
            LaunchAuth::Password => {
                let password = random();
                self.config += &format!("authorization {{ user: \"msgbench\", password: \"{password}\" }}\n");
                self.client.insert("user".into(), "msgbench".into());
                self.client.insert("password".into(), password.into());
            }
            LaunchAuth::Token => {
                let token = random();
                self.config += &format!("authorization {{ token: \"{token}\" }}\n");
                self.client.insert("token".into(), token.into());
            }
            LaunchAuth::Nkey => {
                let key = KeyPair::new_user();
                self.config += &format!("authorization {{ users: [ {{ nkey: \"{}\" }} ] }}\n", key.public_key());
                let seed = write(dir, "user.nk", &key.seed().map_err(io::Error::other)?)?;
                self.client.insert("nkey".into(), text(&seed));
            }
            LaunchAuth::Creds => {
                let made = jwt().map_err(io::Error::other)?;
                self.config += &made.config;
                let creds = write(dir, "user.creds", &made.creds)?;
                self.leaf_remote = format!(", credentials: \"{}\", account: \"{}\"", creds.display(), made.account);
                self.client.insert("creds".into(), text(&creds));
            }
        }
        Ok(())
    }

    fn certificates(&mut self, dir: &Path, tls: LaunchTls) -> io::Result<()> {
        let mut authority = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "msgbench throw-away authority");
        let key = rcgen::KeyPair::generate().map_err(io::Error::other)?;
        let root = authority.self_signed(&key).map_err(io::Error::other)?;
        let issuer = Issuer::new(authority, key);
        let ca = write(dir, "ca.pem", &root.pem())?;
        let issue = |file: &str, names: &[&str], usage: ExtendedKeyUsagePurpose| -> io::Result<(PathBuf, PathBuf)> {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
            params.distinguished_name.push(DnType::CommonName, format!("msgbench {file}"));
            params.extended_key_usages.push(usage);
            let key = rcgen::KeyPair::generate().map_err(io::Error::other)?;
            let certificate = params.signed_by(&key, &issuer).map_err(io::Error::other)?;
            let cert = write(dir, &format!("{file}.pem"), &certificate.pem())?;
            Ok((cert, write(dir, &format!("{file}.key"), &key.serialize_pem())?))
        };
        let (cert, key) = issue("server", &["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth)?;
        let verify = if tls == LaunchTls::Mutual { ", verify: true" } else { "" };
        let (cert, key, root) = (cert.display(), key.display(), ca.display());
        self.config += &format!("tls {{ cert_file: \"{cert}\", key_file: \"{key}\", ca_file: \"{root}\"{verify} }}\n");
        self.client.insert("ca".into(), text(&ca));
        if tls == LaunchTls::Mutual {
            let (cert, key) = issue("client", &["msgbench"], ExtendedKeyUsagePurpose::ClientAuth)?;
            self.client.insert("cert".into(), text(&cert));
            self.client.insert("key".into(), text(&key));
        }
        Ok(())
    }
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

/// A user by JWT: the server's configuration, the `.creds`, and the account.
struct SignedUser {
    config: String,
    creds: String,
    account: String,
}

/// An operator, an account with JetStream and a user of it: the server's configuration, and the
/// user's `.creds`.
///
/// The form is that of JWT version 2 of NATS (nats-io/jwt), header `ed25519-nkey`, all numbers
/// unlimited.
fn jwt() -> Result<SignedUser, nkeys::error::Error> {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let system = KeyPair::new_account();
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
        "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
    let operator_jwt = sign(
        &operator,
        &operator.public_key(),
        "operator",
        json!({ "type": "operator", "version": 2, "system_account": system.public_key() }),
    )?;
    let of_account = |kind: Value| json!({ "type": "account", "version": 2, "limits": kind });
    let account_jwt = sign(&operator, &account.public_key(), "account", of_account(limits.clone()))?;
    let mut plain = limits;
    for key in ["mem_storage", "disk_storage", "streams", "consumer"] {
        plain[key] = 0.into();
    }
    let system_jwt = sign(&operator, &system.public_key(), "system", of_account(plain))?;
    let user_jwt = sign(
        &account,
        &user.public_key(),
        "user",
        json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 }),
    )?;
    let config = format!(
        "operator: {operator_jwt}\nsystem_account: {system}\nresolver: MEMORY\nresolver_preload: {{\n  {account}: \
         {account_jwt}\n  {system}: {system_jwt}\n}}\n",
        system = system.public_key(),
        account = account.public_key(),
    );
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY \
         SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed()?
    );
    Ok(SignedUser { config, creds, account: account.public_key() })
}

fn sign(issuer: &KeyPair, subject: &str, name: &str, nats: Value) -> Result<String, nkeys::error::Error> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": subject, "iat": 1_600_000_000, "iss": issuer.public_key(), "sub": subject, "name": name, "nats": nats });
    let head = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    Ok(format!("{head}.{}", URL_SAFE_NO_PAD.encode(issuer.sign(head.as_bytes())?)))
}
