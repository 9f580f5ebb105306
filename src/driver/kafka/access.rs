//! How clients show who they are, and whom they trust: the options `tls` and `sasl`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::native::TOKEN;
use crate::plan::options::home;

const PLAIN: &str = "PLAIN";
const OAUTHBEARER: &str = "OAUTHBEARER";
/// What to do about a secret that is not there.
const PASSWORD: &str = "write `password`, or `password-env` and set that variable";
const BEARER: &str = "write `token`, or `token-env` and set that variable";

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct TlsOptions {
    #[schemars(extend("secret" = "file"))]
    ca: Option<String>,
    #[schemars(extend("secret" = "file"))]
    certificate: Option<String>,
    #[schemars(extend("secret" = "file"))]
    key: Option<String>,
    /// Whether the broker's name must be the one in its certificate. Default: true.
    verify_name: Option<bool>,
}

impl TlsOptions {
    /// Replaces `~` in the names of files.
    pub(super) fn find_files(&mut self) {
        for file in [&mut self.ca, &mut self.certificate, &mut self.key].into_iter().flatten() {
            *file = home(file);
        }
    }

    /// What librdkafka is told.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        let files = [
            ("ssl.ca.location", &self.ca),
            ("ssl.certificate.location", &self.certificate),
            ("ssl.key.location", &self.key),
        ];
        let mut all: Vec<_> =
            files.iter().filter_map(|(key, file)| Some(((*key).to_owned(), file.as_ref()?.clone()))).collect();
        if self.verify_name == Some(false) {
            all.push(("ssl.endpoint.identification.algorithm".into(), "none".into()));
        }
        all
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SaslOptions {
    #[serde(default = "plain")]
    #[schemars(extend("secret" = "none"))]
    mechanism: String,
    /// Who it is; with OAUTHBEARER the token says it.
    #[schemars(extend("secret" = "none"))]
    user: Option<String>,
    #[schemars(extend("secret" = "value"))]
    password: Option<String>,
    /// The environment variable that holds the password, so that the record does not.
    #[schemars(extend("secret" = "variable"))]
    password_env: Option<String>,
    /// With OAUTHBEARER: the token.
    #[schemars(extend("secret" = "value"))]
    token: Option<String>,
    /// The environment variable that holds the token.
    #[schemars(extend("secret" = "variable"))]
    token_env: Option<String>,
}

fn plain() -> String {
    PLAIN.into()
}

impl SaslOptions {
    /// What an address says.
    pub(super) fn plain(user: String, password: Option<String>) -> Self {
        Self {
            mechanism: plain(),
            user: Some(user),
            password: Some(password.unwrap_or_default()),
            password_env: None,
            token: None,
            token_env: None,
        }
    }

    pub(super) fn mechanism(&self) -> &str {
        &self.mechanism
    }

    pub(super) fn is_plain(&self) -> bool {
        self.mechanism == PLAIN
    }

    /// Whether librdkafka has the mechanism with OpenSSL alone.
    pub(super) fn needs_openssl(&self) -> bool {
        self.mechanism.starts_with("SCRAM") || self.bears_token()
    }

    fn bears_token(&self) -> bool {
        self.mechanism == OAUTHBEARER
    }

    /// Whether everything is there that the mechanism needs.
    ///
    /// # Errors
    /// What is not, and what to write.
    pub(super) fn check(&self) -> Result<(), String> {
        self.secret().map(drop)
    }

    /// What librdkafka is told. A token goes under [`TOKEN`], which is not a setting of its own.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(super) fn settings(&self) -> Result<Vec<(String, String)>, String> {
        let secret = self.secret()?;
        let mut all = vec![("sasl.mechanisms".to_owned(), self.mechanism.clone())];
        if self.bears_token() {
            all.push((TOKEN.into(), secret));
        } else {
            all.push(("sasl.username".into(), self.user.clone().unwrap_or_default()));
            all.push(("sasl.password".into(), secret));
        }
        Ok(all)
    }

    fn secret(&self) -> Result<String, String> {
        let (value, variable, names, remedy) = match self.bears_token() {
            true => (&self.token, &self.token_env, "`token` and `token-env`", BEARER),
            false if self.token.is_some() || self.token_env.is_some() => {
                return Err(format!(
                    "a token is for OAUTHBEARER, and the mechanism is {}; write mechanism = \"OAUTHBEARER\"",
                    self.mechanism
                ));
            }
            false if self.user.is_none() => {
                return Err(format!("it needs `user` beside it: the mechanism is {}", self.mechanism));
            }
            false => (&self.password, &self.password_env, "`password` and `password-env`", PASSWORD),
        };
        match (value, variable) {
            (Some(secret), None) => Ok(secret.clone()),
            (None, Some(name)) => std::env::var(name).map_err(|e| format!("{name}: {e}; {remedy}")),
            _ => Err(format!("neither or both of {names} are there; {remedy}")),
        }
    }
}
