//! Who may connect: a token, a name and password, or a signature over the nonce of INFO.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use nkeys::KeyPair;

use super::config::{Auth, User};
use super::info::Connect;
use crate::broker::shared::error::BrokerError;

/// Refuses credentials that could never be presented.
pub(super) fn check(auth: &Auth) -> Result<(), BrokerError> {
    match auth {
        Auth::None => {}
        Auth::Token(token) if token.is_empty() => {
            return Err(BrokerError::Setting {
                setting: "the token",
                value: "empty".into(),
                remedy: "give one, or no --token at all",
            });
        }
        Auth::Token(_) => {}
        Auth::Users(users) => {
            for user in users {
                if let User::Nkey(key) = user {
                    let bad = |reason: String| BrokerError::Nkey { key: key.clone(), reason };
                    if !key.starts_with('U') {
                        return Err(bad("it is not a user's key".into()));
                    }
                    KeyPair::from_public_key(key).map_err(|e| bad(e.to_string()))?;
                }
            }
        }
    }
    Ok(())
}

/// Whether CONNECT presents valid credentials for a connection whose INFO carried `nonce`.
pub(super) fn admits(auth: &Auth, said: &Connect, nonce: &str) -> bool {
    match auth {
        Auth::None => true,
        Auth::Token(token) => said.auth_token.as_deref().is_some_and(|given| same(given, token)),
        Auth::Users(users) => users.iter().any(|user| match user {
            User::Password { name, password } => {
                said.user.as_deref().is_some_and(|given| same(given, name))
                    && said.pass.as_deref().is_some_and(|given| same(given, password))
            }
            User::Nkey(key) => said.nkey.as_deref() == Some(key) && signed(key, nonce, said.sig.as_deref()),
        }),
    }
}

fn signed(key: &str, nonce: &str, signature: Option<&str>) -> bool {
    let Some(text) = signature.map(|s| s.trim_end_matches('=')) else { return false };
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)) else { return false };
    KeyPair::from_public_key(key).is_ok_and(|pair| pair.verify(nonce.as_bytes(), &bytes).is_ok())
}

/// Compares without telling by its duration where the texts differ.
fn same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> Connect {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn tokens_and_passwords() {
        let token = Auth::Token("s3cr3t".into());
        assert!(admits(&token, &said(r#"{"auth_token":"s3cr3t"}"#), ""));
        assert!(!admits(&token, &said(r#"{"auth_token":"s3cr3"}"#), ""));
        assert!(!admits(&token, &said("{}"), ""));
        let users = Auth::Users(vec![
            User::Password { name: "derek".into(), password: "s3cr3t".into() },
            User::Password { name: "ann".into(), password: "x".into() },
        ]);
        assert!(admits(&users, &said(r#"{"user":"ann","pass":"x"}"#), ""));
        assert!(!admits(&users, &said(r#"{"user":"ann","pass":"s3cr3t"}"#), ""));
        assert!(!admits(&users, &said(r#"{"user":"ann"}"#), ""));
        assert!(admits(&Auth::None, &said("{}"), ""));
    }

    #[test]
    fn an_nkey_user_must_sign_this_nonce() {
        let pair = KeyPair::new_user();
        let users = Auth::Users(vec![User::Nkey(pair.public_key())]);
        check(&users).unwrap();
        let sig = URL_SAFE_NO_PAD.encode(pair.sign(b"nonce-1").unwrap());
        let line = said(&format!(r#"{{"nkey":"{}","sig":"{sig}"}}"#, pair.public_key()));
        assert!(admits(&users, &line, "nonce-1"));
        assert!(!admits(&users, &line, "nonce-2"));
        let other = KeyPair::new_user();
        let line = said(&format!(r#"{{"nkey":"{}","sig":"{sig}"}}"#, other.public_key()));
        assert!(!admits(&users, &line, "nonce-1"));
    }

    #[test]
    fn unusable_credentials_are_refused_at_the_start() {
        assert!(check(&Auth::Token(String::new())).is_err());
        assert!(check(&Auth::Users(vec![User::Nkey("SUAX".into())])).is_err());
        assert!(check(&Auth::Users(vec![User::Nkey("UABC".into())])).is_err());
    }
}
