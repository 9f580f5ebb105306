//! `msgbench broker`: the reference broker alone, for ordinary clients.

mod args;
mod kafka;
mod lines;

use std::io::Write as _;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::broker::kafka::{KafkaBroker, KafkaCounters};
use crate::broker::{Broker, BrokerError, Config, Counters, Shutdown};
use crate::host::files;
use crate::system::scratch::Scratch;
pub use args::{BrokerArgs, LineFormat, SlowPolicyArg};

/// Serves until a signal ends it.
///
/// # Errors
/// When the broker cannot be bound or the operating system refuses what it needs.
pub fn run(args: BrokerArgs) -> Result<(), BrokerError> {
    let workers = args.workers();
    let files = files::raise_limit();
    let system = |what| move |source| BrokerError::System { what, source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .map_err(system("start the worker threads"))?;
    let served = runtime.block_on(serve(&args, workers, files))?;
    // Tasks of connections cut short by a second signal hold nothing that would have to be waited
    // for.
    runtime.shutdown_background();
    say(&lines::closing(args.format, &served)).map_err(system("write to standard output"))
}

/// The halves that are served.
struct BrokerParts {
    router: Option<Broker>,
    log: Option<KafkaBroker>,
    /// The settings of the router, in force or not.
    config: Config,
    /// Removed when it is dropped.
    _scratch: Option<Scratch>,
}

/// What has been counted, half by half.
struct BrokerTotals {
    router: Option<Arc<Counters>>,
    log: Option<Arc<KafkaCounters>>,
}

async fn bind(args: &BrokerArgs) -> Result<BrokerParts, BrokerError> {
    let mut config = args.config()?;
    let mut scratch = None;
    let log = match args.log.kafka {
        None => None,
        Some(listen) => {
            let dir = match &args.log.data {
                Some(dir) => dir.clone(),
                None => {
                    let what = "store the log; name a folder with --data";
                    let made = Scratch::new().map_err(|source| BrokerError::System { what, source })?;
                    scratch.insert(made).path().to_owned()
                }
            };
            let mut kafka = args.log.config(listen, dir, config.max_payload);
            kafka.tls = config.tls.clone();
            kafka.users = args.user.clone().zip(args.pass.clone()).into_iter().collect();
            kafka.auth_timeout = config.auth_timeout;
            kafka.max_connections = config.max_connections;
            // Where messages are stored, that is where they are hit; the router beside it does as
            // it should.
            kafka.fault_options.faults = std::mem::take(&mut config.fault_options.faults);
            kafka.fault_options.log = config.fault_options.log.take();
            Some(KafkaBroker::bind(kafka).await?)
        }
    };
    let settings = config.clone();
    let router = match (args.listen.is_empty(), &log) {
        (true, Some(_)) if config.fault_options.control.is_some() => {
            let value = config.fault_options.control.map(|address| address.to_string()).unwrap_or_default();
            let remedy = "only the router's faults can be changed while it runs: give it an address with --listen";
            return Err(BrokerError::Setting { setting: "the control address of the faults", value, remedy });
        }
        (true, Some(_)) if config.monitor.is_some() => {
            let address = config.monitor.unwrap_or(config.listen);
            let remedy = "the pages tell of the router: give it an address with --listen";
            return Err(BrokerError::Setting { setting: "the monitoring address", value: address.to_string(), remedy });
        }
        (true, Some(_)) => None,
        _ => Some(Broker::bind(config).await?),
    };
    Ok(BrokerParts { router, log, config: settings, _scratch: scratch })
}

async fn serve(args: &BrokerArgs, workers: usize, files: u64) -> Result<BrokerTotals, BrokerError> {
    let system = |what| move |source| BrokerError::System { what, source };
    // Handlers first: a signal that comes right after the ready line must find them.
    let install = |kind| signal(kind).map_err(system("listen for signals"));
    let mut term = install(SignalKind::terminate())?;
    let mut int = install(SignalKind::interrupt())?;
    let mut hup = (!super::interrupt::hangup_is_ignored()).then(|| install(SignalKind::hangup())).transpose()?;
    let heard = hup.is_some();
    let mut usr2 = install(SignalKind::user_defined2())?;
    let parts = bind(args).await?;
    let served = BrokerTotals {
        router: parts.router.as_ref().map(Broker::counters),
        log: parts.log.as_ref().map(KafkaBroker::counters),
    };
    let address = parts.router.as_ref().map(Broker::local_addr).or(parts.log.as_ref().map(KafkaBroker::local_addr));
    if let (Some(path), Some(address)) = (&args.port_file, address) {
        write_port(path, address.port()).map_err(system("write the port file"))?;
    }
    say(&lines::ready(args, &parts, workers, files)).map_err(system("write to standard output"))?;
    let (again, mut repeated) = tokio::sync::mpsc::channel(1);
    let (end, ended) = tokio::sync::watch::channel(None);
    tokio::spawn(async move {
        let how = tokio::select! {
            _ = term.recv() => Shutdown::Drain,
            _ = int.recv() => Shutdown::Drain,
            _ = async { hup.as_mut()?.recv().await }, if heard => Shutdown::Drain,
            _ = usr2.recv() => Shutdown::LameDuck,
        };
        end.send_replace(Some(how));
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = async { hup.as_mut()?.recv().await }, if heard => {}
        }
        // The receiver is gone when the broker has ended by itself meanwhile.
        let _ = again.send(()).await;
    });
    let shutdown = || {
        let mut ended = ended.clone();
        async move { ended.wait_for(Option::is_some).await.ok().and_then(|how| *how).unwrap_or(Shutdown::Drain) }
    };
    let router = async {
        match parts.router {
            Some(broker) => broker.run(shutdown()).await,
            None => Ok(()),
        }
    };
    let log = async {
        match parts.log {
            Some(broker) => broker.run(shutdown()).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        result = async { tokio::try_join!(router, log) } => drop(result?),
        _ = repeated.recv() => {}
    }
    Ok(served)
}

fn nanos(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn write_port(path: &std::path::Path, port: u16) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    std::fs::write(&name, format!("{port}\n"))?;
    std::fs::rename(&name, path)
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
