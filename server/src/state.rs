//! What every handler sees: the name, the phase of the server and, once it is there, the model. Decides who may be answered.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cllm_crds::ArtifactProgress;
use cllm_storage::Meter;

use crate::{
    authentication::ApiKeys,
    backend::{Backend, Description, LoadedModel, Text},
    download::artifact,
    error::ApiError,
    gate::sentence,
    metrics::{Load, Metrics},
    worker::{Limits, Worker},
};

/// A step of a large model on few processors may take long; a thread that is silent for longer hangs.
const SILENCE: Duration = Duration::from_secs(300);

/// What is known before the model is loaded.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `model` of the API.
    pub served_name: String,
    /// `Jacobi` or `Autoregressive`.
    pub strategy: String,
    /// Most rows of a forward.
    pub block_size: u32,
    /// Of the engine thread.
    pub limits: Limits,
    /// Who may ask.
    pub keys: ApiKeys,
}

/// The server as its handlers see it.
pub struct App {
    /// What is known before the model is loaded.
    pub settings: Settings,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// How far the download of the checkpoint is.
    pub download: Arc<Meter>,
    /// Seconds since 1970 at the start: the age of the model in the API.
    pub created: u64,
    loaded: OnceLock<Loaded>,
    draining: AtomicBool,
}

/// What there is once the model is loaded.
pub struct Loaded {
    /// The engine thread.
    pub worker: Worker,
    /// Encodes.
    pub text: Arc<dyn Text>,
    /// Describes.
    pub description: Description,
}

impl App {
    /// A server that is still loading.
    pub fn new(settings: Settings) -> Result<Self, prometheus::Error> {
        let metrics = Arc::new(Metrics::new(&settings.served_name, settings.limits.max_tokens_per_second)?);
        let draining = AtomicBool::new(false);
        Ok(Self {
            settings,
            metrics,
            download: Arc::default(),
            created: seconds_since_1970(),
            loaded: OnceLock::new(),
            draining,
        })
    }

    /// Starts the engine thread and answers from now on.
    pub fn finish_loading<B: Backend>(&self, model: LoadedModel<B>) -> std::io::Result<()> {
        let LoadedModel { backend, text, description, capacity } = model;
        self.metrics.start_capacity(capacity);
        let worker = Worker::spawn(backend, self.settings.limits, Arc::clone(&self.metrics))?;
        self.loaded.get_or_init(|| Loaded { worker, text, description });
        Ok(())
    }

    /// The model, if requests are answered.
    pub fn serving(&self) -> Result<&Loaded, ApiError> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(ApiError::Draining);
        }
        let loading = || match artifact(&self.download) {
            Some(ArtifactProgress { bytes_done, bytes_total, .. }) => ApiError::Downloading { bytes_done, bytes_total },
            None => ApiError::Loading,
        };
        let loaded = self.loaded.get().ok_or_else(loading)?;
        let Description { gate, speedup, .. } = &loaded.description;
        match gate.as_ref().filter(|gate| gate.blocked) {
            Some(gate) => Err(ApiError::Blocked(sentence(gate, speedup.as_ref()))),
            None => Ok(loaded),
        }
    }

    /// The model, if it is there, also while draining.
    pub fn loaded(&self) -> Option<&Loaded> {
        self.loaded.get()
    }

    /// From now on requests are refused.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The engine thread is not dead and does not hang. Never a matter of load.
    pub fn is_alive(&self) -> bool {
        self.loaded().is_none_or(|loaded| loaded.worker.is_alive(SILENCE))
    }

    /// What runs and waits.
    pub fn load(&self) -> Load {
        let ready = self.serving().is_ok();
        let count = |read: fn(&Worker) -> usize| self.loaded().map_or(0, |loaded| read(&loaded.worker));
        Load { running: count(Worker::running), waiting: count(Worker::waiting), ready }
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
