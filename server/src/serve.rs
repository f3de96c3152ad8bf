//! Puts the parts together: listeners first, then the model in the background, then requests until the end is wished for.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, serve::ListenerExt};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Args,
    authentication::{ApiKeys, KeyFileError},
    backend::{Backend, LoadError, LoadedModel},
    download, engine, router,
    shutdown::{Shutdown, drain},
    state::{App, Settings},
    worker::Limits,
};

/// How long clients may take to read the last bytes after everything is answered.
const FLUSH: Duration = Duration::from_secs(5);

/// Why the server ended other than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The model cannot be served.
    #[error("the model cannot be loaded: {0}.")]
    Load(String),
    /// The prompts of `--prompts` cannot be used.
    #[error("the speed-up cannot be measured: {0}.")]
    Prompts(String),
    /// The model cannot be downloaded.
    #[error("the model cannot be downloaded: {0}.")]
    Download(#[from] cllm_storage::StorageError),
    /// The key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A port is taken, or the address is not of this machine.
    #[error("{address} cannot be listened on: {source}. Choose another --host or port.")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The served name cannot be a label.
    #[error("the metrics cannot be set up: {0}.")]
    Metrics(#[from] prometheus::Error),
    /// The operating system refused a thread, a signal handler or a socket.
    #[error("the operating system refused to go on: {0}.")]
    System(#[from] std::io::Error),
}

impl From<LoadError> for ServeError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Checkpoint(sentence) => Self::Load(sentence),
            LoadError::Prompts(sentence) => Self::Prompts(sentence),
        }
    }
}

impl ServeError {
    /// 2 where starting again cannot help, 1 otherwise: a Secret may be corrected while the server waits to be started again.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Download(error) if error.retry_helps() || error.is_about_credentials() => ExitCode::FAILURE,
            Self::Load(_) | Self::Download(_) | Self::Keys(_) | Self::Metrics(_) => ExitCode::from(2),
            Self::Prompts(_) | Self::Listen { .. } | Self::System(_) => ExitCode::FAILURE,
        }
    }
}

impl From<String> for ServeError {
    fn from(sentence: String) -> Self {
        Self::Load(sentence)
    }
}

/// Serves until a signal or an error. Blocks.
pub fn run(args: Args) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let listeners = Listeners::bind(&args).await?;
        let app = Arc::new(App::new(settings(&args)?)?);
        let limit = args.drain();
        let (meter, runtime) = (Arc::clone(&app.download), tokio::runtime::Handle::current());
        let load = move || {
            let folder = download::folder(&args, &meter, &runtime)?;
            engine::load(&args, &folder).map_err(ServeError::from)
        };
        serve(listeners, app, load, &shutdown, limit).await
    });
    // a model that is still loading must not keep the process
    runtime.shutdown_background();
    result
}

/// What the command line says about the server itself.
pub fn settings(args: &Args) -> Result<Settings, KeyFileError> {
    let keys = args.api_key_file.as_deref().map(ApiKeys::read).transpose()?.unwrap_or_default();
    Ok(Settings {
        served_name: args.served_name.clone(),
        strategy: args.strategy.as_str().to_owned(),
        block_size: args.block_size,
        limits: Limits {
            concurrent: usize::from(args.max_concurrent_requests),
            queued: usize::from(args.max_queued_requests),
            max_tokens_per_second: args.max_tokens_per_second,
        },
        keys,
    })
}

/// Both ports, bound.
#[derive(Debug)]
pub struct Listeners {
    /// The OpenAI API.
    pub http: TcpListener,
    /// `/metrics`, `/status` and the probes.
    pub metrics: TcpListener,
}

impl Listeners {
    /// Binds the addresses of the command line.
    pub async fn bind(args: &Args) -> Result<Self, ServeError> {
        Ok(Self {
            http: listen(SocketAddr::new(args.host, args.http_port)).await?,
            metrics: listen(SocketAddr::new(args.metrics_host(), args.metrics_port)).await?,
        })
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

/// Answers at once, loads meanwhile, and returns when `shutdown` is wished for and done, or when loading fails.
pub async fn serve<B: Backend, E: Into<ServeError> + Send + 'static>(
    listeners: Listeners,
    app: Arc<App>,
    load: impl FnOnce() -> Result<LoadedModel<B>, E> + Send + 'static,
    shutdown: &Shutdown,
    drain_limit: Duration,
) -> Result<(), ServeError> {
    let (http, metrics) = (listeners.http.local_addr()?, listeners.metrics.local_addr()?);
    tracing::info!(%http, %metrics, model = app.settings.served_name, "listening");
    let stop = CancellationToken::new();
    let servers = [
        spawn_server(listeners.http, router::http(Arc::clone(&app)), &stop),
        spawn_server(listeners.metrics, router::metrics(Arc::clone(&app)), &stop),
    ];
    let loading = load_in_background(load)?;
    tokio::select! {
        loaded = loading => announce(&app, loaded)?,
        () = shutdown.drain.cancelled() => {}
    }
    shutdown.drain.cancelled().await;
    let deadline = tokio::time::Instant::now() + drain_limit;
    drain(&app, drain_limit, &shutdown.hurry).await;
    stop.cancel();
    let flushed = futures::future::join_all(servers);
    tokio::select! {
        _ = flushed => {}
        () = tokio::time::sleep_until(deadline.max(tokio::time::Instant::now() + FLUSH)) => {}
        () = shutdown.hurry.cancelled() => {}
    }
    tracing::info!("done");
    Ok(())
}

fn spawn_server(listener: TcpListener, router: Router, stop: &CancellationToken) -> JoinHandle<std::io::Result<()>> {
    let listener = listener.tap_io(|connection| {
        // tokens shall not wait for each other; without it they are only slower
        drop(connection.set_nodelay(true));
    });
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await })
}

type Loading<B, E> = oneshot::Receiver<Result<LoadedModel<B>, E>>;

fn load_in_background<B: Backend, E: Send + 'static>(
    load: impl FnOnce() -> Result<LoadedModel<B>, E> + Send + 'static,
) -> std::io::Result<Loading<B, E>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        // nobody waits for it when the server is ending already
        drop(sender.send(load()));
    })?;
    Ok(receiver)
}

fn announce<B: Backend, E: Into<ServeError>>(
    app: &App,
    loaded: Result<Result<LoadedModel<B>, E>, oneshot::error::RecvError>,
) -> Result<(), ServeError> {
    let panicked = |_| ServeError::Load("loading panicked".to_owned());
    let model = loaded.map_err(panicked)?.map_err(Into::into)?;
    let known = model.description.clone();
    app.finish_loading(model)?;
    tracing::info!(
        digest = known.digest,
        parameters = known.parameters,
        context_length = known.context_length,
        strategy = known.strategy,
        block_size = known.block_size,
        hardware = known.hardware,
        "loaded"
    );
    match app.serving() {
        Ok(_) => tracing::info!("ready"),
        Err(why) => tracing::warn!("{why}"),
    }
    Ok(())
}
