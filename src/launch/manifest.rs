//! Agents as objects of Kubernetes: an Indexed Job, and what it needs.
//!
//! # Design
//! A Job with as many completions as pods that run at once, each with an index: all start together,
//! and none is started again, because an agent that comes back in the middle of a measurement is
//! another one. A pod that fails or is evicted fails the whole Job at once (`podFailurePolicy`), so
//! that nobody waits for the rest. Requests equal limits: the pod is in the class Guaranteed, and
//! with whole CPUs the kubelet's static policy gives it cores of its own. The spread keeps agents
//! from measuring each other.
//!
//! Sources: batch/v1 Job, core/v1 Pod of the Kubernetes API; a test checks the output against them.

use serde_json::{Map, Value, json};

use crate::plan::AgentLabel;

use super::agent::AgentCommand;
use super::yaml;

/// Folder and file of the key in a pod.
const KEY_FOLDER: &str = "/etc/msgbench";
/// The key's place in the secret, and the name of its file.
pub const KEY_ITEM: &str = "agent.nk";
/// The user of the image (Dockerfile).
const USER: u32 = 10001;
/// Where an agent may write in the pod: the only places.
const WRITABLE: [&str; 2] = ["/results", "/tmp"];
/// The index of a pod (batch/v1 Job, Indexed).
const INDEX: &str = "metadata.annotations['batch.kubernetes.io/job-completion-index']";

/// Where the key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentKey {
    /// The control server asks for none.
    None,
    /// A secret that is in the cluster, with the item [`KEY_ITEM`].
    Secret(String),
    /// Printed as a secret of its own, in base64.
    Printed(String),
}

/// How many agents may share a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeSpread {
    /// As evenly as the nodes allow: no node has two more than another.
    #[default]
    Even,
    /// One on each node; the rest waits for nodes.
    OneEach,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRequest {
    pub count: u32,
    /// Name of the Job; what belongs to it is named after it.
    pub name: String,
    pub namespace: Option<String>,
    pub control: String,
    pub fleet: Option<String>,
    pub image: String,
    pub labels: Vec<AgentLabel>,
    /// Quantities of Kubernetes.
    pub cpu: String,
    pub memory: String,
    pub key: AgentKey,
    pub spread: NodeSpread,
    /// Labels that a node must have.
    pub nodes: Vec<AgentLabel>,
    /// After so many seconds the cluster ends what is left.
    pub deadline_s: u64,
    /// Names in DNS for the pods.
    pub service: bool,
}

/// What Kubernetes would refuse, or would read as something else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error(
        "`{0}` is no name of Kubernetes: at most {1} small letters, digits and `-`, with a letter first and no `-` last"
    )]
    Name(String, usize),
    #[error("`{0}` is no quantity of Kubernetes: write 2, 500m or 1Gi")]
    Quantity(String),
    #[error("no agents: a count from 1 to 100000 is needed")]
    Count,
    #[error(
        "the address of the control server has a password in it, which everybody could read: leave it out, and give a key"
    )]
    Password,
    #[error("`{0}` is no reference to an image: it has a blank in it, or nothing")]
    Image(String),
}

impl ManifestRequest {
    /// The objects as documents of one file.
    ///
    /// # Errors
    /// What Kubernetes would refuse.
    pub fn yaml(&self) -> Result<String, ManifestError> {
        self.check()?;
        Ok(yaml::documents(&self.objects()))
    }

    fn check(&self) -> Result<(), ManifestError> {
        // A pod of the Job is named after it, an index of five digits and five letters: a label of
        // DNS (RFC 1123) has 63.
        let longest = 63 - "-99999-abcde".len();
        for (name, most) in [(Some(&self.name), longest), (self.namespace.as_ref(), 63)] {
            name.filter(|n| !dns_label(n, most)).map_or(Ok(()), |n| Err(ManifestError::Name(n.clone(), most)))?;
        }
        if let AgentKey::Secret(secret) = &self.key
            && !dns_label(secret, 63)
        {
            return Err(ManifestError::Name(secret.clone(), 63));
        }
        for quantity in [&self.cpu, &self.memory] {
            let unit = quantity.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            let number = quantity.trim_end_matches(unit).parse::<f64>();
            let known = ["", "m", "k", "M", "G", "Ki", "Mi", "Gi"].contains(&unit);
            if !known || !number.is_ok_and(|n| n > 0.0) {
                return Err(ManifestError::Quantity(quantity.clone()));
            }
        }
        if !(1..=100_000).contains(&self.count) {
            return Err(ManifestError::Count);
        }
        let authority = self.control.split_once("://").map_or(self.control.as_str(), |(_, rest)| rest);
        if authority.split('/').next().is_some_and(|host| host.contains('@')) {
            return Err(ManifestError::Password);
        }
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            return Err(ManifestError::Image(self.image.clone()));
        }
        Ok(())
    }

    /// What belongs together.
    fn marks(&self) -> Value {
        json!({
            "app.kubernetes.io/name": "msgbench",
            "app.kubernetes.io/component": "agent",
            "app.kubernetes.io/instance": self.name,
        })
    }

    fn metadata(&self, name: &str) -> Value {
        let mut metadata = Map::from_iter([("name".to_owned(), name.into()), ("labels".to_owned(), self.marks())]);
        metadata.extend(self.namespace.iter().map(|n| ("namespace".to_owned(), n.as_str().into())));
        metadata.into()
    }

    fn objects(&self) -> Vec<Value> {
        let secret = match &self.key {
            AgentKey::Printed(base64) => Some(json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": self.metadata(&self.secret_name()),
                "type": "Opaque",
                "data": {KEY_ITEM: base64},
            })),
            _ => None,
        };
        let service = self.service.then(|| {
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": self.metadata(&self.name),
                // Without an address of its own: each pod has a name instead.
                "spec": {"clusterIP": "None", "publishNotReadyAddresses": true, "selector": self.marks()},
            })
        });
        secret.into_iter().chain(service).chain([self.job()]).collect()
    }

    fn secret_name(&self) -> String {
        match &self.key {
            AgentKey::Secret(name) => name.clone(),
            _ => format!("{}-key", self.name),
        }
    }

    fn job(&self) -> Value {
        let failed = json!({"containerName": "agent", "operator": "NotIn", "values": [0]});
        let evicted = json!([{"type": "DisruptionTarget", "status": "True"}]);
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": self.metadata(&self.name),
            "spec": {
                "completionMode": "Indexed",
                "completions": self.count,
                "parallelism": self.count,
                "backoffLimit": 0,
                "activeDeadlineSeconds": self.deadline_s,
                "podFailurePolicy": {"rules": [
                    {"action": "FailJob", "onExitCodes": failed},
                    {"action": "FailJob", "onPodConditions": evicted},
                ]},
                "template": {"metadata": {"labels": self.marks()}, "spec": self.pod()},
            },
        })
    }

    fn pod(&self) -> Value {
        let mut volumes: Vec<Value> = WRITABLE.iter().map(|path| json!({"name": path[1..], "emptyDir": {}})).collect();
        if self.key != AgentKey::None {
            // Read by the group of the pod's volumes, which is that of the user.
            let secret = json!({"secretName": self.secret_name(), "defaultMode": 0o440});
            volumes.push(json!({"name": "key", "secret": secret}));
        }
        let selector = json!({"matchLabels": self.marks()});
        let spread = json!({
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": selector,
        });
        let mut pod = json!({
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": [spread],
            "containers": [self.container()],
            "volumes": volumes,
        });
        if self.spread == NodeSpread::OneEach {
            let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": selector});
            pod["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
        }
        if !self.nodes.is_empty() {
            let all = self.nodes.iter().map(|label| (label.key.clone(), label.value.as_str().into()));
            pod["nodeSelector"] = Map::from_iter(all).into();
        }
        if self.service {
            pod["subdomain"] = self.name.as_str().into();
        }
        pod
    }

    fn container(&self) -> Value {
        let key = (self.key != AgentKey::None).then(|| format!("{KEY_FOLDER}/{KEY_ITEM}"));
        let agent = AgentCommand {
            program: "msgbench".into(),
            control: self.control.clone(),
            // Filled in by the kubelet.
            name: format!("{}-$(AGENT_INDEX)", self.name),
            fleet: self.fleet.clone(),
            labels: self.labels.clone(),
            key,
            // A Job is over when its agents are.
            once: true,
        };
        let mut mounts: Vec<Value> =
            WRITABLE.iter().map(|path| json!({"name": path[1..], "mountPath": path})).collect();
        if agent.key.is_some() {
            mounts.push(json!({"name": "key", "mountPath": KEY_FOLDER, "readOnly": true}));
        }
        let resources = json!({"cpu": self.cpu, "memory": self.memory});
        // The image's own command is msgbench.
        json!({
            "name": "agent",
            "image": self.image,
            "args": agent.arguments(),
            "env": [
                {"name": "AGENT_INDEX", "valueFrom": {"fieldRef": {"fieldPath": INDEX}}},
            ],
            "resources": {"requests": resources, "limits": resources},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": mounts,
        })
    }
}

/// A label of DNS that begins with a letter (RFC 1035; names of Services have to).
fn dns_label(name: &str, most: usize) -> bool {
    name.len() <= most
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ManifestRequest {
        ManifestRequest {
            count: 8,
            name: "msgbench".into(),
            namespace: None,
            control: "nats://control:4222".into(),
            fleet: None,
            image: "msgbench:0.2.0".into(),
            labels: vec!["zone=a".parse().unwrap()],
            cpu: "2".into(),
            memory: "1Gi".into(),
            key: AgentKey::None,
            spread: NodeSpread::Even,
            nodes: Vec::new(),
            deadline_s: 3600,
            service: false,
        }
    }

    #[test]
    fn a_job_starts_all_agents_at_once_and_none_again() {
        let objects = request().objects();
        assert_eq!(objects.len(), 1);
        let spec = &objects[0]["spec"];
        assert_eq!(
            (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
            (&json!(8), &json!(8), &json!(0))
        );
        assert_eq!(spec["completionMode"], "Indexed");
        assert_eq!(spec["podFailurePolicy"]["rules"][0]["action"], "FailJob");
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["restartPolicy"], "Never");
        let resources = &pod["containers"][0]["resources"];
        assert_eq!(resources["requests"], resources["limits"]);
        let args = serde_json::to_string(&pod["containers"][0]["args"]).unwrap();
        assert_eq!(
            args,
            r#"["agent","--control","nats://control:4222","--name","msgbench-$(AGENT_INDEX)","--label","zone=a","--once"]"#
        );
    }

    #[test]
    fn a_key_is_mounted_from_its_secret() {
        for (key, objects, secret) in
            [(AgentKey::Secret("mine".into()), 1, "mine"), (AgentKey::Printed("U1VB".into()), 2, "msgbench-key")]
        {
            let all = ManifestRequest { key, ..request() }.objects();
            assert_eq!(all.len(), objects);
            let pod = &all[objects - 1]["spec"]["template"]["spec"];
            assert_eq!(pod["volumes"][2]["secret"]["secretName"], secret);
            assert_eq!(pod["containers"][0]["volumeMounts"][2]["mountPath"], "/etc/msgbench");
            assert_eq!(pod["containers"][0]["args"][8], "/etc/msgbench/agent.nk");
        }
    }

    #[test]
    fn what_kubernetes_would_refuse_is_said() {
        let refused = |change: &dyn Fn(&mut ManifestRequest)| {
            let mut it = request();
            change(&mut it);
            it.yaml().unwrap_err()
        };
        assert!(request().yaml().is_ok());
        for name in ["", "Big", "a_b", "-a", "a-", "1a", &"a".repeat(52)] {
            assert_eq!(refused(&|r| r.name = name.into()), ManifestError::Name(name.into(), 51));
        }
        for quantity in ["", "two", "1Gb", "-1", "0", "1 Gi", "1.2.3"] {
            assert_eq!(refused(&|r| r.memory = quantity.into()), ManifestError::Quantity(quantity.into()));
        }
        assert_eq!(refused(&|r| r.count = 0), ManifestError::Count);
        assert_eq!(refused(&|r| r.control = "nats://me:secret@h:4222".into()), ManifestError::Password);
        assert_eq!(refused(&|r| r.namespace = Some("a b".into())), ManifestError::Name("a b".into(), 63));
        assert_eq!(refused(&|r| r.image = String::new()), ManifestError::Image(String::new()));
    }
}
