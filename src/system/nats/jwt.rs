//! An operator, accounts and users of NATS by signed tokens.
//!
//! The form is that of JWT version 2 of NATS (nats-io/jwt), header `ed25519-nkey`, all numbers
//! unlimited.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use nkeys::error::Error;
use serde_json::{Value, json};

/// Signs accounts.
pub struct Operator {
    own: KeyPair,
    /// The account that servers use among each other.
    system: KeyPair,
}

impl Operator {
    pub fn new() -> Self {
        Self { own: KeyPair::new_operator(), system: KeyPair::new_account() }
    }

    /// The configuration of a server that lets these accounts in. They have JetStream.
    ///
    /// # Errors
    /// When a key does not sign.
    pub fn config(&self, accounts: &[&KeyPair]) -> Result<String, Error> {
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
        let system = self.system.public_key();
        let own = json!({ "type": "operator", "version": 2, "system_account": system });
        let own = sign(&self.own, &self.own.public_key(), "operator", own)?;
        let of_account = |kind: Value| json!({ "type": "account", "version": 2, "limits": kind });
        let mut plain = limits.clone();
        for key in ["mem_storage", "disk_storage", "streams", "consumer"] {
            plain[key] = 0.into();
        }
        let mut text = format!("operator: {own}\nsystem_account: {system}\nresolver: MEMORY\nresolver_preload: {{\n");
        for account in accounts {
            let key = account.public_key();
            let signed = sign(&self.own, &key, "account", of_account(limits.clone()))?;
            text += &format!("  {key}: {signed}\n");
        }
        let signed = sign(&self.own, &system, "system", of_account(plain))?;
        text += &format!("  {system}: {signed}\n}}\n");
        Ok(text)
    }
}

/// A `.creds` file of a new user of an account, who may use these subjects; all where none is
/// named.
///
/// # Errors
/// When a key does not sign.
pub fn creds(account: &KeyPair, subjects: &[&str]) -> Result<String, Error> {
    let user = KeyPair::new_user();
    let mut claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    if !subjects.is_empty() {
        for way in ["pub", "sub"] {
            claims[way] = json!({ "allow": subjects });
        }
    }
    let jwt = sign(account, &user.public_key(), "user", claims)?;
    Ok(format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY \
         SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed()?
    ))
}

fn sign(issuer: &KeyPair, subject: &str, name: &str, nats: Value) -> Result<String, Error> {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": subject, "iat": 1_600_000_000, "iss": issuer.public_key(), "sub": subject, "name": name, "nats": nats });
    let head = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&claims));
    Ok(format!("{head}.{}", URL_SAFE_NO_PAD.encode(issuer.sign(head.as_bytes())?)))
}
