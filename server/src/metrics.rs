//! What `/metrics` says: our own `cllm_*`, and beside them the `vllm:` names that dashboards and the Gateway API
//! inference extension read. Counts only: decides nothing.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    core::Collector,
};

use crate::{
    backend::{Forwards, KvMemory},
    capacity::Capacity,
    throughput::{Delivered, Generated, Sample, Throughput},
};

/// The Content-Type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Of vLLM, so that its dashboards show the same steps.
const FIRST_TOKEN_BUCKETS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
/// Of vLLM.
const REQUEST_BUCKETS: [f64; 20] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0,
];
const TOKENS_PER_FORWARD_BUCKETS: [f64; 12] = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 16.0];

/// The sizes between which adaptive decoding chooses, and what fixed ones may have.
const ROWS_BUCKETS: [f64; 12] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// What replicas are scaled on. On the page only while the server answers: of one that cannot take requests a 0 would say that fewer
/// replicas are enough.
const SIGNALS: [&str; 4] =
    ["cllm_tokens_per_second", "cllm_utilization_percent", "cllm_capacity_tokens_per_second", "cllm_queued_requests"];
/// Those of them that are only there once a capacity is known.
const OF_CAPACITY: [&str; 2] = ["cllm_utilization_percent", "cllm_capacity_tokens_per_second"];

/// How a generation, or a request that never became one, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The end of sequence or a stop string.
    Stop,
    /// As many tokens as were asked for.
    Length,
    /// The client went away.
    Cancelled,
    /// The engine failed.
    Failed,
    /// The queue was full.
    Rejected,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Stop, Self::Length, Self::Cancelled, Self::Failed, Self::Rejected];

    /// The value of the label `outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    started: Instant,
    delivery: Mutex<Delivery>,
    requests: IntCounterVec,
    generated_tokens: [IntCounter; 2],
    prompt_tokens: [IntCounter; 2],
    forwards: IntCounter,
    tokens_per_forward: Histogram,
    rows_per_forward: Histogram,
    first_token: [Histogram; 2],
    request_latency: [Histogram; 2],
    kv_usage: [Gauge; 2],
    asked_tokens: [IntCounter; 2],
    remembered_tokens: [IntCounter; 2],
    preemptions: [IntCounter; 2],
    running: [IntGauge; 2],
    waiting: [IntGauge; 2],
    tokens_per_second: Gauge,
    capacity: Gauge,
    utilization: Gauge,
    ready: IntGauge,
}

/// What is delivered, and what could be.
struct Delivery {
    throughput: Throughput,
    capacity: Capacity,
}

/// How much of what it can deliver a server delivers now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Generated tokens per second over the last ten seconds.
    pub tokens_per_second: f64,
    /// Of all slots together; absent until it is known.
    pub capacity_tokens_per_second: Option<f64>,
    /// The one in percent of the other.
    pub utilization_percent: Option<f64>,
}

/// What is read when a page is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Generations that are being decoded.
    pub running: usize,
    /// Generations that wait for a slot.
    pub waiting: usize,
    /// Loaded, and not draining.
    pub ready: bool,
}

impl Metrics {
    /// Metrics of a server that calls its model `served_name` and delivers no more than so many tokens per second.
    pub fn new(served_name: &str, max_tokens_per_second: Option<u32>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker { registry: &registry, served_name };
        let requests = make.register(IntCounterVec::new(
            make.options("cllm_requests_total", "Generations by outcome; a prompt of a list counts as one."),
            &["outcome"],
        )?)?;
        for outcome in Outcome::ALL {
            requests.with_label_values(&[outcome.as_str()]);
        }
        let metrics = Self {
            started: Instant::now(),
            delivery: Mutex::new(Delivery {
                throughput: Throughput::default(),
                capacity: Capacity::capped(max_tokens_per_second),
            }),
            requests,
            generated_tokens: make
                .counters(["cllm_generated_tokens_total", "vllm:generation_tokens_total"], "Generated tokens.")?,
            prompt_tokens: make
                .counters(["cllm_prompt_tokens_total", "vllm:prompt_tokens_total"], "Tokens of prompts.")?,
            forwards: make.counter("cllm_forwards_total", "Decode forwards, of all generations.")?,
            tokens_per_forward: make.histogram(
                "cllm_tokens_per_forward",
                "Tokens per decode forward of a generation: (generated tokens - 1) / decode forwards.",
                &TOKENS_PER_FORWARD_BUCKETS,
            )?,
            rows_per_forward: make.histogram(
                "cllm_rows_per_forward",
                "Rows of a decode forward: one token that is known, the others guesses.",
                &ROWS_BUCKETS,
            )?,
            first_token: make.histograms(
                ["cllm_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"],
                "From the arrival of a request to its first token.",
                &FIRST_TOKEN_BUCKETS,
            )?,
            request_latency: make.histograms(
                ["cllm_request_latency_seconds", "vllm:e2e_request_latency_seconds"],
                "From the arrival of a request to its last token.",
                &REQUEST_BUCKETS,
            )?,
            kv_usage: make.gauges_of_shares(
                ["cllm_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"],
                "Share of the memory for keys and values that generations need, of 1.",
            )?,
            asked_tokens: make.counters(
                ["cllm_prefix_cache_queries_total", "vllm:prefix_cache_queries_total"],
                "Tokens that were looked up in the prefix cache.",
            )?,
            remembered_tokens: make.counters(
                ["cllm_prefix_cache_hits_total", "vllm:prefix_cache_hits_total"],
                "Tokens that were found in the prefix cache.",
            )?,
            preemptions: make.counters(
                ["cllm_preemptions_total", "vllm:num_preemptions_total"],
                "Generations that gave their memory to older ones and were computed again.",
            )?,
            running: make
                .gauges(["cllm_requests_running", "vllm:num_requests_running"], "Generations being decoded.")?,
            waiting: make
                .gauges(["cllm_queued_requests", "vllm:num_requests_waiting"], "Generations waiting for a slot.")?,
            tokens_per_second: make.register(Gauge::with_opts(
                make.options("cllm_tokens_per_second", "Generated tokens per second over the last ten seconds."),
            )?)?,
            capacity: make.register(Gauge::with_opts(make.options(
                "cllm_capacity_tokens_per_second",
                "Generated tokens per second with all slots in use: measured at the start, corrected in use, at most \
                 --max-tokens-per-second.",
            ))?)?,
            utilization: make.register(Gauge::with_opts(make.options(
                "cllm_utilization_percent",
                "cllm_tokens_per_second in percent of cllm_capacity_tokens_per_second.",
            ))?)?,
            ready: make
                .register(IntGauge::with_opts(make.options("cllm_ready", "1 when loaded and not draining."))?)?,
            registry: registry.clone(),
        };
        Ok(metrics)
    }

    /// A prompt was accepted by the engine.
    pub fn prompt(&self, tokens: usize) {
        self.prompt_tokens.each(|counter| counter.inc_by(tokens as u64));
    }

    /// The first token came after `latency`.
    pub fn first_token(&self, latency: Duration) {
        self.first_token.each(|histogram| histogram.observe(latency.as_secs_f64()));
    }

    /// A forward gave one generation so many tokens, with one decode forward or none (a prefill).
    pub fn generated(&self, tokens: u64, Forwards { decode, drafted }: Forwards) {
        self.generated_tokens.each(|counter| counter.inc_by(tokens));
        self.forwards.inc_by(decode);
        if decode > 0 {
            self.rows_per_forward.observe(1.0 + drafted as f64 / decode as f64);
        }
    }

    /// The server begins to answer; so many tokens per second were measured with all slots in use.
    pub fn start_capacity(&self, measured: Option<f64>) {
        self.delivery().capacity.start(measured);
    }

    /// A forward gave all generations together so much, and took some time; saturated is a server whose slots are all in use, or for
    /// which requests wait.
    pub fn shared_forward(&self, generated: Generated, took: Duration, is_saturated: bool) {
        let at = self.started.elapsed();
        let saturated = if is_saturated { took } else { Duration::ZERO };
        let mut delivery = self.delivery();
        delivery.throughput.record(Sample { at, took, saturated, generated });
        if delivery.capacity.is_due(at) {
            let window = delivery.throughput.window(at);
            delivery.capacity.observe(at, window);
        }
    }

    /// How much of what it can deliver it delivers now.
    pub fn usage(&self) -> Usage {
        let delivery = self.delivery();
        let tokens_per_second = delivery.throughput.window(self.started.elapsed()).tokens_per_second;
        Usage {
            tokens_per_second,
            capacity_tokens_per_second: delivery.capacity.tokens_per_second(),
            utilization_percent: delivery.capacity.utilization_percent(tokens_per_second),
        }
    }

    /// The memory is in this state.
    pub fn memory(&self, KvMemory { usage, asked_tokens, remembered_tokens, preemptions }: KvMemory) {
        self.kv_usage.each(|gauge| gauge.set(usage));
        let raise = |counters: &[IntCounter; 2], total: u64| {
            counters.each(|counter| counter.inc_by(total.saturating_sub(counter.get())));
        };
        raise(&self.asked_tokens, asked_tokens);
        raise(&self.remembered_tokens, remembered_tokens);
        raise(&self.preemptions, preemptions);
    }

    /// A generation is complete.
    pub fn complete(&self, outcome: Outcome, latency: Duration, tokens_per_forward: Option<f64>) {
        self.ended(outcome);
        self.request_latency.each(|histogram| histogram.observe(latency.as_secs_f64()));
        if let Some(value) = tokens_per_forward {
            self.tokens_per_forward.observe(value);
        }
    }

    /// A generation ended, or never began.
    pub fn ended(&self, outcome: Outcome) {
        self.requests.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Generations with this outcome so far.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.requests.with_label_values(&[outcome.as_str()]).get()
    }

    /// What the last seconds with work in them delivered, and how long ago that was.
    pub fn delivered(&self) -> Option<(Delivered, Duration)> {
        let delivered = self.delivery().throughput.delivered()?;
        Some((delivered, self.started.elapsed().saturating_sub(delivered.at)))
    }

    /// The page, in the text format of Prometheus.
    pub fn render(&self, load: Load) -> Result<Vec<u8>, prometheus::Error> {
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.running.each(|gauge| gauge.set(count(load.running)));
        self.waiting.each(|gauge| gauge.set(count(load.waiting)));
        self.ready.set(i64::from(load.ready));
        let usage = self.usage();
        self.tokens_per_second.set(usage.tokens_per_second);
        self.capacity.set(usage.capacity_tokens_per_second.unwrap_or_default());
        self.utilization.set(usage.utilization_percent.unwrap_or_default());
        let is_told = |name: &str| {
            let is_known = usage.capacity_tokens_per_second.is_some() || !OF_CAPACITY.contains(&name);
            is_known && (load.ready || !SIGNALS.contains(&name))
        };
        let mut families = self.registry.gather();
        families.retain(|family| is_told(family.name()));
        let mut page = Vec::new();
        TextEncoder::new().encode(&families, &mut page)?;
        Ok(page)
    }

    fn delivery(&self) -> std::sync::MutexGuard<'_, Delivery> {
        self.delivery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same fact under our name and vLLM's.
trait Each<T> {
    fn each(&self, act: impl Fn(&T));
}

impl<T> Each<T> for [T; 2] {
    fn each(&self, act: impl Fn(&T)) {
        self.iter().for_each(act);
    }
}

/// Makes and registers metrics with the label `model_name` (and `engine`, where vLLM has it).
struct Maker<'a> {
    registry: &'a Registry,
    served_name: &'a str,
}

impl Maker<'_> {
    fn options(&self, name: &str, help: &str) -> Opts {
        let options = Opts::new(name, help).const_label("model_name", self.served_name);
        if name.starts_with("vllm:") { options.const_label("engine", "0") } else { options }
    }

    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, prometheus::Error> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::with_opts(self.options(name, help))?)
    }

    fn counters(&self, names: [&str; 2], help: &str) -> Result<[IntCounter; 2], prometheus::Error> {
        Ok([self.counter(names[0], help)?, self.counter(names[1], help)?])
    }

    fn gauges(&self, names: [&str; 2], help: &str) -> Result<[IntGauge; 2], prometheus::Error> {
        let gauge = |name| self.register(IntGauge::with_opts(self.options(name, help))?);
        Ok([gauge(names[0])?, gauge(names[1])?])
    }

    fn gauges_of_shares(&self, names: [&str; 2], help: &str) -> Result<[Gauge; 2], prometheus::Error> {
        let gauge = |name| self.register(Gauge::with_opts(self.options(name, help))?);
        Ok([gauge(names[0])?, gauge(names[1])?])
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts { common_opts: self.options(name, help), buckets: buckets.to_vec() };
        self.register(Histogram::with_opts(options)?)
    }

    fn histograms(&self, names: [&str; 2], help: &str, buckets: &[f64]) -> Result<[Histogram; 2], prometheus::Error> {
        Ok([self.histogram(names[0], help, buckets)?, self.histogram(names[1], help, buckets)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_both_names_with_the_model() {
        let metrics = Metrics::new("text2sql", None).unwrap();
        metrics.start_capacity(Some(50.0));
        metrics.prompt(7);
        metrics.generated(3, Forwards { decode: 1, drafted: 3 });
        metrics.generated(1, Forwards::default());
        for asked_tokens in [10, 40] {
            metrics.memory(KvMemory { usage: 0.5, asked_tokens, remembered_tokens: 8, preemptions: 0 });
        }
        metrics.complete(Outcome::Stop, Duration::from_secs(1), Some(3.0));
        let page = String::from_utf8(metrics.render(Load { running: 2, waiting: 5, ready: true }).unwrap()).unwrap();
        for line in [
            r#"cllm_requests_total{model_name="text2sql",outcome="stop"} 1"#,
            r#"cllm_requests_total{model_name="text2sql",outcome="cancelled"} 0"#,
            r#"cllm_generated_tokens_total{model_name="text2sql"} 4"#,
            r#"vllm:generation_tokens_total{engine="0",model_name="text2sql"} 4"#,
            r#"cllm_rows_per_forward_bucket{model_name="text2sql",le="3"} 0"#,
            r#"cllm_rows_per_forward_bucket{model_name="text2sql",le="4"} 1"#,
            r#"vllm:prompt_tokens_total{engine="0",model_name="text2sql"} 7"#,
            r#"vllm:num_requests_running{engine="0",model_name="text2sql"} 2"#,
            r#"vllm:num_requests_waiting{engine="0",model_name="text2sql"} 5"#,
            r#"cllm_queued_requests{model_name="text2sql"} 5"#,
            r#"cllm_forwards_total{model_name="text2sql"} 1"#,
            r#"vllm:kv_cache_usage_perc{engine="0",model_name="text2sql"} 0.5"#,
            r#"cllm_prefix_cache_queries_total{model_name="text2sql"} 40"#,
            r#"cllm_prefix_cache_hits_total{model_name="text2sql"} 8"#,
            r#"vllm:num_preemptions_total{engine="0",model_name="text2sql"} 0"#,
            r#"cllm_tokens_per_second{model_name="text2sql"} 0"#,
            r#"cllm_capacity_tokens_per_second{model_name="text2sql"} 50"#,
            r#"cllm_utilization_percent{model_name="text2sql"} 0"#,
            r#"cllm_tokens_per_forward_sum{model_name="text2sql"} 3"#,
            r#"vllm:e2e_request_latency_seconds_count{engine="0",model_name="text2sql"} 1"#,
        ] {
            assert!(page.lines().any(|found| found == line), "no line {line} in\n{page}");
        }
    }

    /// The signals on a page.
    fn signals(metrics: &Metrics, ready: bool) -> Vec<&'static str> {
        let page = String::from_utf8(metrics.render(Load { running: 0, waiting: 0, ready }).unwrap()).unwrap();
        let is_told = |name: &&str| page.lines().any(|line| line.starts_with(&format!("{name}{{")));
        SIGNALS.into_iter().filter(is_told).collect()
    }

    #[test]
    fn replicas_are_not_scaled_on_what_is_not_known() {
        let metrics = Metrics::new("text2sql", None).unwrap();
        assert!(signals(&metrics, false).is_empty());
        metrics.start_capacity(None);
        assert_eq!(signals(&metrics, true), ["cllm_tokens_per_second", "cllm_queued_requests"]);
        metrics.start_capacity(Some(100.0));
        assert_eq!(signals(&metrics, true), SIGNALS);
        assert!(signals(&metrics, false).is_empty(), "draining");
    }

    #[test]
    fn usage_is_what_was_delivered_of_what_could_be() {
        let metrics = Metrics::new("text2sql", Some(20)).unwrap();
        metrics.start_capacity(Some(1000.0));
        let generated = Generated { tokens: 7, decoded_tokens: 7, decode_forwards: 1 };
        metrics.shared_forward(generated, Duration::from_millis(1), true);
        let usage = metrics.usage();
        assert_eq!(usage.capacity_tokens_per_second, Some(20.0));
        assert!(usage.tokens_per_second > 0.0, "{usage:?}");
        assert!((usage.utilization_percent.unwrap() - 5.0 * usage.tokens_per_second).abs() < 1e-9, "{usage:?}");
    }
}
