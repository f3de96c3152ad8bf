//! What every replica serves over HTTPS, whether it leads or not.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use futures::future::OptionFuture;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapter::{self, Mode};
use crate::authentication::{self, Configuration, Gate};
use crate::certificates::{self, Served, Source};
use crate::controller::answered::{count_requests, count_reviews};
use crate::controller::health::Readiness;
use crate::controller::injection::Injection;
use crate::controller::metrics::Metrics;
use crate::https::{self, HttpsSettings};
use crate::injection;

type Known = watch::Receiver<Option<Arc<Configuration>>>;

/// One that serves.
pub(super) struct Replica<'a> {
    pub(super) client: &'a Client,
    pub(super) settings: &'a HttpsSettings,
    pub(super) metrics: &'a Metrics,
    pub(super) readiness: &'a Readiness,
}

impl Replica<'_> {
    /// Serves until `stop` is cancelled, and until the port is closed then.
    pub(super) async fn serve(
        &self,
        listener: TcpListener,
        injection: Option<Injection>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let HttpsSettings { service, secret, closing, .. } = self.settings;
        let (certificate, served) = Served::channel();
        let (configuration, known) = watch::channel(None);
        let adapter = self.adapter(known.clone()).context("cannot make the HTTP client of the adapter")?;
        let (injector, reads) = injection.map(|Injection { injector, work, registration: _ }| (injector, work)).unzip();
        let injection = injector.map(|injector| count_reviews(injection::router(injector), self.metrics));
        let tls = Arc::new(https::configuration(Arc::new(served.clone()))?);
        let answers = https::serve(listener, tls, https::routes(adapter, injection), stop.clone(), *closing);
        let certificate = certificates::follow(self.client.clone(), &service.namespace, secret, &certificate);
        let trusted = self.follow_trusted(&configuration);
        let ready = self.become_ready(served, known);
        tokio::select! {
            () = answers => {}
            () = async { tokio::join!(certificate, trusted, ready, OptionFuture::from(reads)); } => {}
        }
        Ok(())
    }

    fn adapter(&self, known: Known) -> reqwest::Result<Option<Router>> {
        if self.settings.adapter == Mode::False {
            return Ok(None);
        }
        let router = adapter::router(self.client.clone(), Gate::new(self.client.clone(), known))?;
        Ok(Some(count_requests(router, self.metrics)))
    }

    /// Only the adapter needs to know who asks.
    async fn follow_trusted(&self, configuration: &watch::Sender<Option<Arc<Configuration>>>) {
        match self.settings.adapter {
            Mode::False => drop(configuration.send_replace(Some(Arc::default()))),
            Mode::Auto | Mode::True => authentication::follow(self.client.clone(), configuration).await,
        }
    }

    async fn become_ready(&self, served: Served, mut known: Known) {
        if known.wait_for(Option::is_some).await.is_ok() {
            if let Source::Own(_) = &self.settings.certificates {
                served.clone().is_read().await;
                self.readiness.has_looked();
            }
            served.is_there().await;
            self.readiness.serves();
        }
        // For as long as the others go on.
        std::future::pending::<()>().await;
    }
}
