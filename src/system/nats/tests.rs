use super::*;
use crate::needs;
use options::{LaunchAuth, LaunchTls};

fn nats(program: PathBuf, launch: LaunchOptions, jetstream: bool, dir: &Path) -> NatsSystem {
    let context = SystemContext { dir: dir.to_owned(), timeout: Duration::from_secs(30), cpus: None };
    NatsSystem::new("nats", program, launch, jetstream, context)
}

#[test]
fn a_server_comes_up_says_what_it_is_and_goes_away() {
    let Some((program, version)) = needs::nats_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut nats = nats(program, LaunchOptions::default(), false, dir.path());
    let running = nats.start().unwrap();
    assert!(running.url.starts_with("nats://127.0.0.1:"));
    assert_eq!(running.pids.len(), 1);
    assert_eq!(running.settings["version"], version);
    assert_eq!(running.settings["max_payload"], "1048576");
    assert_eq!(running.settings["max_pending"], "67108864");
    assert!(!running.settings.contains_key("sync_interval"));
    assert!(running.client.is_empty());
    assert_eq!(nats.ended(), None);
    assert!(nats.start().is_err());
    nats.stop().unwrap();
    nats.stop().unwrap();
    assert!(!Path::new(&format!("/proc/{}", running.pids[0])).exists());
    assert!(nats.logs()[0].is_file());
}

#[test]
fn settings_are_read_back_from_the_server() {
    let Some((program, version)) = needs::nats_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let told = !version.starts_with("2.9.");
    let launch = LaunchOptions {
        sync_interval: told.then(|| "10s".into()),
        max_memory: Some(crate::units::Bytes(64 << 20)),
        max_payload: Some(crate::units::Bytes(4096)),
        config: vec!["write_deadline: \"3s\"".into()],
        ..LaunchOptions::default()
    };
    let mut nats = nats(program, launch, true, dir.path());
    let running = nats.start().unwrap();
    assert_eq!(running.settings["max_payload"], "4096");
    assert_eq!(running.settings["jetstream_max_memory"], "67108864 B");
    assert_eq!(running.settings["config.1"], "write_deadline: \"3s\"");
    assert_eq!(running.settings["jetstream"], "true");
    assert!(!running.settings["store_filesystem"].is_empty());
    let interval = &running.settings["sync_interval"];
    assert!(interval.starts_with(if told { "10s: " } else { "not told by nats-server 2.9" }), "{interval}");
    assert!(dir.path().join("store").is_dir());
}

#[test]
fn a_server_that_runs_already_is_read_by_its_monitoring_port() {
    let Some((program, version)) = needs::nats_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let always = (!version.starts_with("2.9.")).then(|| "always".to_owned());
    let synced = always.is_some();
    let mut nats = nats(program, LaunchOptions { sync_interval: always, ..LaunchOptions::default() }, true, dir.path());
    let url = nats.start().unwrap().url;
    let reach = |monitor: Option<&str>| {
        let timeout = Duration::from_secs(5);
        crate::system::nats::external::ExternalNats::new("mine", &url, monitor, timeout).start()
    };
    assert!(!reach(None).unwrap().settings.contains_key("sync_interval"));
    let monitor = format!("http://127.0.0.1:{}/", nats.nodes[0].monitor);
    let settings = reach(Some(&monitor)).unwrap().settings;
    let start = if synced { "always: a message is synced before" } else { "not told by nats-server 2.9" };
    assert!(settings["sync_interval"].starts_with(start), "{settings:?}");
    let words = reach(Some("127.0.0.1:1")).unwrap_err().to_string();
    assert!(words.contains("its monitoring port 127.0.0.1:1 does not answer"), "{words}");
    assert!(words.contains("correct or remove the option `monitor`"), "{words}");
}

#[test]
fn a_setting_that_the_server_refuses_is_quoted() {
    let Some((program, _)) = needs::nats_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let launch = LaunchOptions { config: vec!["max_paylod: 7".into()], ..LaunchOptions::default() };
    let words = nats(program, launch, false, dir.path()).start().unwrap_err().to_string();
    assert!(words.starts_with("nats did not come up: exited with code 1"), "{words}");
    assert!(words.contains("unknown field \"max_paylod\""), "{words}");
}

#[test]
fn three_servers_form_a_cluster_whose_jetstream_has_a_leader() {
    let Some((program, _)) = needs::nats_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut nats = nats(program, LaunchOptions { nodes: 3, ..LaunchOptions::default() }, true, dir.path());
    let running = nats.start().unwrap();
    assert_eq!(running.url.split(',').count(), 3);
    assert_eq!(running.pids.len(), 3);
    assert_eq!(running.settings["nodes"], "3");
    assert_eq!(nats.logs().len(), 3);
    assert_eq!(ready::agreed(&nats.nodes, &nats.launch, true, PROBE), Ok(()));
    // SAFETY: kill touches no memory; the process is our child and not yet reaped.
    assert_eq!(unsafe { libc::kill(running.pids[1] as libc::pid_t, libc::SIGKILL) }, 0);
    let deadline = Instant::now() + Duration::from_secs(5);
    while nats.ended().is_none() && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    assert_eq!(nats.ended().as_deref(), Some("server node-2: killed by SIGKILL"));
    nats.stop().unwrap();
    assert!(running.pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
}

#[test]
fn secrets_are_made_and_handed_to_the_client() {
    let Some((program, _)) = needs::nats_server() else { return };
    let made = |auth, tls| {
        let dir = tempfile::tempdir().unwrap();
        let mut nats = nats(program.clone(), LaunchOptions { auth, tls, ..LaunchOptions::default() }, true, dir.path());
        let running = nats.start().unwrap();
        let known: Vec<String> = running.client.keys().cloned().collect();
        (known.join(" "), running.settings)
    };
    assert_eq!(made(LaunchAuth::Password, LaunchTls::None).0, "password user");
    assert_eq!(made(LaunchAuth::Token, LaunchTls::None).0, "token");
    let (keys, settings) = made(LaunchAuth::Nkey, LaunchTls::Mutual);
    assert_eq!(keys, "ca cert key nkey");
    assert_eq!((settings["auth_required"].as_str(), settings["tls_required"].as_str()), ("true", "true"));
    assert_eq!(made(LaunchAuth::Creds, LaunchTls::Server).0, "ca creds");
}

#[test]
fn a_server_killed_from_outside_is_noticed() {
    let Some((program, _)) = needs::nats_server() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut nats = nats(program, LaunchOptions::default(), false, dir.path());
    let pid = nats.start().unwrap().pids[0];
    // SAFETY: kill touches no memory; the process is our child and not yet reaped.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) }, 0);
    let deadline = Instant::now() + Duration::from_secs(5);
    while nats.ended().is_none() && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
    assert_eq!(nats.ended().as_deref(), Some("killed by SIGKILL"));
    nats.stop().unwrap();
}

#[test]
fn a_program_that_is_no_server_is_refused_with_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = nats(PathBuf::from("/bin/false"), LaunchOptions::default(), false, dir.path());
    assert_eq!(nats.start().unwrap_err().to_string(), "nats did not come up: exited with code 1");
}

#[test]
fn a_taken_port_is_told_from_other_ends() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    std::fs::write(&log, "listen tcp 127.0.0.1:1: bind: address already in use\n").unwrap();
    assert!(port_was_taken(&log));
    std::fs::write(&log, "permission denied\n").unwrap();
    assert!(!port_was_taken(&log));
    assert!(!port_was_taken(&dir.path().join("none")));
}
