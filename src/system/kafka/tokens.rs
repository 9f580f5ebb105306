//! An issuer of tokens (JWT, RFC 7519) for one trial: it signs with a key of its own (ES256), and
//! the broker reads the public half from a file (JWKS, RFC 7517).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::json;

/// Who has issued a token, and for whom.
pub(super) const ISSUER: &str = "msgbench-trial";
pub(super) const AUDIENCE: &str = "kafka";
const KEY_ID: &str = "trial";
/// Bytes of a number on the curve P-256.
const SCALAR: usize = 32;

pub(super) struct TokenIssuer(KeyPair);

/// When a token ends, seconds from now; negative has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends(pub(super) i64);

impl TokenIssuer {
    /// # Errors
    /// When a key cannot be made.
    pub(super) fn new() -> Result<Self, String> {
        KeyPair::generate().map(Self).map_err(|e| format!("cannot make a key: {e}"))
    }

    /// The public key, as a set of one.
    pub(super) fn keys(&self) -> String {
        // 4, then both coordinates (SEC 1, section 2.3.3).
        let point = self.0.der_bytes();
        let (x, y) = point.get(1..).unwrap_or_default().split_at(SCALAR.min(point.len().saturating_sub(1)));
        let key = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        json!({ "keys": [key] }).to_string()
    }

    /// A token of `user`.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(super) fn token(&self, user: &str, ends: Ends) -> Result<String, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) as i64;
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({ "alg": "ES256", "typ": "JWT", "kid": KEY_ID }));
        let issued = now + ends.0.min(0) - 60;
        let claims = part(json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": user, "scope": "kafka", "iat": issued, "exp": now + ends.0,
        }));
        let signed = format!("{head}.{claims}");
        let signature = self.0.sign(signed.as_bytes()).map_err(|e| format!("cannot sign a token: {e}"))?;
        let signature = plain(&signature).ok_or("a signature of another form")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The two numbers of a signature side by side (RFC 7518, section 3.4), of their form in DER.
fn plain(der: &[u8]) -> Option<[u8; 2 * SCALAR]> {
    fn number(der: &[u8]) -> Option<(&[u8], &[u8])> {
        let [2, length, rest @ ..] = der else { return None };
        let (number, rest) = rest.split_at_checked(usize::from(*length))?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        Some((number.get(zeros..)?, rest))
    }
    let [0x30, _, rest @ ..] = der else { return None };
    let (r, rest) = number(rest)?;
    let (s, _) = number(rest)?;
    let mut out = [0; 2 * SCALAR];
    for (value, end) in [(r, SCALAR), (s, 2 * SCALAR)] {
        let begin = end.checked_sub(value.len()).filter(|begin| *begin + SCALAR >= end)?;
        out.get_mut(begin..end)?.copy_from_slice(value);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A number in DER: no zeros in front, but one where the first bit is set.
    fn der(number: &[u8; SCALAR]) -> Vec<u8> {
        let zeros = number.iter().take_while(|b| **b == 0).count().min(SCALAR - 1);
        let mut value = number[zeros..].to_vec();
        if value[0] & 0x80 != 0 {
            value.insert(0, 0);
        }
        [vec![2, value.len() as u8], value].concat()
    }

    proptest! {
        #[test]
        fn a_signature_keeps_its_numbers(mut r: [u8; SCALAR], s: [u8; SCALAR], zeros in 0usize..4) {
            r[..zeros].fill(0);
            let body = [der(&r), der(&s)].concat();
            let all = [vec![0x30, body.len() as u8], body].concat();
            prop_assert_eq!(plain(&all).unwrap().to_vec(), [r, s].concat());
        }
        #[test]
        fn any_bytes_are_no_panic(bytes: Vec<u8>) {
            let _ = plain(&bytes);
        }
    }

    #[test]
    fn a_token_has_three_parts_and_names_its_user() {
        let issuer = TokenIssuer::new().unwrap();
        let token = issuer.token("me", Ends(60)).unwrap();
        let parts: Vec<Vec<u8>> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        assert_eq!((parts.len(), parts[2].len()), (3, 64));
        let claims: serde_json::Value = serde_json::from_slice(&parts[1]).unwrap();
        assert_eq!((claims["sub"].as_str(), claims["iss"].as_str()), (Some("me"), Some(ISSUER)));
        let keys: serde_json::Value = serde_json::from_str(&issuer.keys()).unwrap();
        assert_eq!(keys["keys"][0]["x"].as_str().unwrap().len(), 43);
        assert_ne!(keys, serde_json::from_str::<serde_json::Value>(&TokenIssuer::new().unwrap().keys()).unwrap());
    }
}
