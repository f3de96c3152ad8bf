//! The Jobs of the stages, in order: what each runs, and under which rules it is retried.

use std::collections::BTreeSet;

use cllm_crds::status_page::JobStage;
use cllm_crds::{Evaluation, Keep, PodOptions, StagePodOptions, TrainingMethod, TrainingOptions};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use sha2::{Digest, Sha256};

use crate::access::{MountedAccess, Role};
use crate::location::{Location, WORKSPACE_FOLDER};
use crate::naming::{STAGE_LABEL, training_labels};
use crate::pod::{Arguments, METRICS_PORT, Mounts, Program, TERMINATION_MESSAGE_PATH, template};
use crate::resources::StagedJob;
use crate::sharing::Replicated;
use crate::training::division::Division;
use crate::training::retries::failure_policy;
use crate::training::{ValidTraining, workers};

const CONTAINER: &str = "trainer";
/// Time for a checkpoint after SIGTERM.
const GRACE_SECONDS: i64 = 120;

/// One stage before it is a Job.
struct Stage<'a> {
    kind: JobStage,
    /// What decides over its result.
    arguments: Arguments,
    /// What decides only over how it is computed.
    manner: Arguments,
    /// With what each is: only remote places need an access.
    reads: Vec<(Role, &'a Location)>,
    writes: Option<&'a Location>,
    /// Where it runs, where that differs from the other stages.
    pod: &'a StagePodOptions,
    /// Over how many Pods it is divided.
    division: Division,
}

/// The Jobs of all stages. Each name carries a hash of everything that decides over the stage's result, earlier stages included.
pub(super) fn jobs(training: &ValidTraining) -> Vec<StagedJob> {
    let stages = [adapt(training), Some(collect(training)), Some(train(training)), Some(evaluate(training))];
    let mut inputs = Sha256::new();
    stages
        .into_iter()
        .flatten()
        .map(|stage| {
            let arguments = [stage.arguments.0.as_slice(), &training.spec.pod.extra_args].concat();
            inputs.update(serde_json::json!([arguments, stage.division.parts()]).to_string());
            let hash = &format!("{:x}", inputs.clone().finalize())[..8];
            let computed = || format!("{}-{}-{hash}", training.owner.name, subcommand(stage.kind));
            let name = recorded_name(training, stage.kind).unwrap_or_else(computed);
            StagedJob { stage: stage.kind, job: job(training, &name, stage) }
        })
        .collect()
}

/// The Pods of the stages that may have several at once.
pub fn replicated(training: &ValidTraining) -> Vec<Replicated> {
    let labels = training_labels(&training.owner.name);
    let of_stage = |stage: Stage<'_>, field| {
        let (count, at_once) = stage.division.indexes().unwrap_or((1, 1));
        let pod = pod_template(training, &labels, stage).spec.unwrap_or_default();
        Replicated { pod, pods_at_once: count.min(at_once), field }
    };
    vec![
        of_stage(collect(training), "spec.trajectories.parallelism"),
        of_stage(train(training), "spec.training.workers"),
    ]
}

/// The Job that reads the stored report, for when the Pod of the last stage was gone before its summary was read.
pub fn report(training: &ValidTraining) -> Option<Job> {
    let evaluation = jobs(training).pop().filter(|staged| staged.stage == JobStage::Evaluating)?;
    let name = evaluation.job.metadata.name?;
    let name = format!("{}-report-{}", training.owner.name, name.rsplit_once('-')?.1);
    let mut report = job(training, &name, read_report(training));
    let labels = [&mut report.metadata.labels, &mut report.spec.as_mut()?.template.metadata.as_mut()?.labels];
    for labels in labels {
        labels.get_or_insert_default().insert(STAGE_LABEL.to_owned(), "report".to_owned());
    }
    Some(report)
}

fn read_report(training: &ValidTraining) -> Stage<'_> {
    Stage {
        kind: JobStage::Evaluating,
        arguments: Arguments::subcommand("report")
            .with("target", target_path(training))
            .with("model", in_workspace("cllm"))
            .with("output", training.output.argument())
            .with("output-uri", &training.output),
        manner: Arguments::default(),
        reads: target_reads(training).into_iter().collect(),
        writes: Some(&training.output),
        pod: &training.spec.evaluation.pod,
        division: Division::Undivided,
    }
}

/// A name stays what it is once its Job was made, also when a newer operator would compute another. In a cluster the spec cannot have
/// changed since; in local mode it can, and then the stage is another one.
fn recorded_name(training: &ValidTraining, stage: JobStage) -> Option<String> {
    let recorded = training.recorded_jobs.iter().find(|summary| summary.stage == stage)?;
    training.owner.is_in_cluster().then(|| recorded.name.clone())
}

/// The stage of a Job or Pod by its label.
pub(crate) fn stage_of(labels: &crate::naming::Labels) -> Option<JobStage> {
    let stages = [JobStage::Adapting, JobStage::Collecting, JobStage::Training, JobStage::Evaluating];
    let word = labels.get(STAGE_LABEL)?;
    stages.into_iter().find(|stage| subcommand(*stage) == word)
}

/// The trainer's word for a stage.
pub(super) fn subcommand(stage: JobStage) -> &'static str {
    match stage {
        JobStage::Adapting => "adapt",
        JobStage::Collecting => "collect",
        JobStage::Training => "train",
        JobStage::Evaluating => "evaluate",
    }
}

/// Where the target lies for the stages after adaptation.
fn target_path(training: &ValidTraining) -> String {
    match training.spec.adaptation {
        Some(_) => in_workspace("target"),
        None => training.model.argument(),
    }
}

fn in_workspace(folder: &str) -> String {
    format!("{WORKSPACE_FOLDER}/{folder}")
}

/// How every stage reads its records.
fn with_records(arguments: Arguments, training: &ValidTraining) -> Arguments {
    let dataset = &training.spec.dataset;
    arguments
        .with_optional("prompt-field", dataset.fields.prompt.as_ref())
        .with_optional("completion-field", dataset.fields.completion.as_ref())
        .with_optional("messages-field", dataset.fields.messages.as_ref())
        .with_optional("max-bad-records", dataset.max_bad_records)
}

fn adapt(training: &ValidTraining) -> Option<Stage<'_>> {
    let options = training.spec.adaptation.as_ref()?;
    let arguments = Arguments::subcommand(subcommand(JobStage::Adapting))
        .with("model", training.model.argument())
        .with("dataset", training.dataset.argument())
        .with("output", in_workspace("target"))
        .with("state", in_workspace("adapt"))
        .with_optional("epochs", options.epochs)
        .with_optional("steps", options.steps)
        .with("batch-size", options.batch_size)
        .with("learning-rate", &options.learning_rate)
        .with("seed", training.spec.training.seed)
        .with_optional("validation", training.validation.as_ref().map(Location::argument))
        .with_optional("keep", chosen(options.keep));
    let arguments = with_records(arguments, training).and(&options.pod.extra_args);
    Some(Stage {
        kind: JobStage::Adapting,
        arguments,
        manner: Arguments::default(),
        reads: [target(training), data(&training.dataset)]
            .into_iter()
            .chain(training.validation.iter().map(data))
            .collect(),
        writes: None,
        pod: &options.pod,
        division: Division::Undivided,
    })
}

fn collect(training: &ValidTraining) -> Stage<'_> {
    let options = &training.spec.trajectories;
    let arguments = Arguments::subcommand(subcommand(JobStage::Collecting))
        .with("model", target_path(training))
        .with("dataset", training.dataset.argument())
        .with("output", in_workspace("trajectories"))
        .with("shards", options.shards)
        .with("block-size", options.block_size)
        .with("max-new-tokens", options.max_new_tokens)
        .with_optional("max-examples", training.spec.dataset.max_examples)
        .with("seed", training.spec.training.seed);
    let arguments = with_records(arguments, training).and(&options.pod.extra_args);
    Stage {
        kind: JobStage::Collecting,
        arguments,
        manner: Arguments::default().with_optional("concurrency", options.concurrency),
        reads: target_reads(training).into_iter().chain([data(&training.dataset)]).collect(),
        writes: None,
        pod: &options.pod,
        division: Division::Shards { count: options.shards, at_once: options.parallelism },
    }
}

fn train(training: &ValidTraining) -> Stage<'_> {
    let options = &training.spec.training;
    let arguments = Arguments::subcommand(subcommand(JobStage::Training))
        .with("model", target_path(training))
        .with("trajectories", in_workspace("trajectories"))
        .with("output", in_workspace("cllm"))
        .with("state", in_workspace("train"))
        .with("steps", options.steps)
        .with("batch-size", options.batch_size)
        .with("learning-rate", &options.learning_rate)
        .with("autoregressive-weight", &options.autoregressive_weight)
        .with("noise-schedule", options.noise_schedule.as_str())
        .with("states", options.states.as_str())
        .with("consistency", options.consistency.as_str())
        .with("seed", options.seed)
        .with("checkpoint-every-steps", options.checkpoint_every_steps)
        .with_optional("validation", training.validation.as_ref().map(Location::argument))
        .with_optional("keep", chosen(options.keep))
        .with_optional("max-perplexity-rise", options.max_perplexity_rise.as_ref());
    let arguments = with_method(with_records(arguments, training), options).and(&options.pod.extra_args);
    let recompute = options.gradient_checkpointing.then_some(true);
    Stage {
        kind: JobStage::Training,
        arguments,
        manner: Arguments::default().with_optional("gradient-checkpointing", recompute),
        reads: target_reads(training).into_iter().chain(training.validation.iter().map(data)).collect(),
        writes: None,
        pod: &options.pod,
        division: Division::of_workers(options.workers),
    }
}

/// Nothing where it is as usual, for the same reason as in [`with_method`].
fn chosen(keep: Keep) -> Option<&'static str> {
    (keep != Keep::default()).then(|| keep.as_str())
}

/// Nothing where all weights are learnt: the Jobs of trainings that began before there was a choice keep their names.
fn with_method(arguments: Arguments, options: &TrainingOptions) -> Arguments {
    match options.method {
        TrainingMethod::Full => arguments,
        TrainingMethod::Lora => {
            let lora = options.lora.clone().unwrap_or_default();
            arguments
                .with("method", options.method.as_str())
                .with("lora-rank", lora.rank)
                .with("lora-alpha", lora.alpha)
        }
    }
}

fn evaluate(training: &ValidTraining) -> Stage<'_> {
    let options = &training.spec.evaluation;
    let arguments = Arguments::subcommand(subcommand(JobStage::Evaluating))
        .with("target", target_path(training))
        .with("model", in_workspace("cllm"))
        .with("dataset", training.test.argument())
        .with("metric", options.metric.as_str())
        .with_optional("database", training.database.as_ref().map(Location::argument))
        .with("prompts", options.prompts)
        .with("block-size", training.spec.trajectories.block_size)
        .with("max-new-tokens", training.spec.trajectories.max_new_tokens)
        .with_optional("temperatures", temperatures(options))
        .with("output", training.output.argument())
        .with("output-uri", &training.output);
    let arguments = with_records(arguments, training).and(&options.pod.extra_args);
    Stage {
        kind: JobStage::Evaluating,
        arguments,
        manner: Arguments::default(),
        reads: target_reads(training)
            .into_iter()
            .chain([data(&training.test)])
            .chain(training.database.iter().map(data))
            .collect(),
        writes: Some(&training.output),
        pod: &options.pod,
        division: Division::Undivided,
    }
}

/// With 0, which is greedy decoding; nothing where only that is measured.
fn temperatures(options: &Evaluation) -> Option<String> {
    let others = options.temperatures.join(",");
    (!others.is_empty()).then(|| format!("0,{others}"))
}

/// The target is read from its own place, unless an adapted one lies in the workspace.
fn target_reads(training: &ValidTraining) -> Option<(Role, &Location)> {
    training.spec.adaptation.is_none().then(|| target(training))
}

fn target(training: &ValidTraining) -> (Role, &Location) {
    (Role::Model, &training.model)
}

fn data(location: &Location) -> (Role, &Location) {
    (Role::Dataset, location)
}

/// By which way the remote places of a stage are reached, one for each role.
fn accesses<'a>(training: &'a ValidTraining, stage: &Stage<'_>) -> Vec<MountedAccess<'a>> {
    let written = stage.writes.map(|output| (Role::Output, output));
    let places = stage.reads.iter().copied().chain(written);
    let roles: BTreeSet<Role> = places.filter(|(_, place)| place.remote().is_some()).map(|(role, _)| role).collect();
    roles.into_iter().map(|role| MountedAccess { role, access: training.access(role) }).collect()
}

fn job(training: &ValidTraining, name: &str, mut stage: Stage<'_>) -> Job {
    let division = stage.division;
    if let Division::Workers { count } = division {
        stage.manner = workers::add_to(stage.manner, training, name, count);
    }
    let mut labels = training_labels(&training.owner.name);
    labels.insert(STAGE_LABEL.to_owned(), subcommand(stage.kind).to_owned());
    let mut metadata = training.owner.child(name, &labels);
    metadata.labels.get_or_insert_default().extend(training.queue_labels.clone());
    let indexes = division.indexes();
    let at_once = indexes.map_or(1, |(_, at_once)| at_once);
    let mut spec = JobSpec {
        // Not a limit of each index: that holds a failed Pod until there is another in its place (KEP 3850), and of a namespace that is
        // deleted all Pods go first (KEP 5080), so that it would never be gone.
        backoff_limit: i32::try_from(training.spec.backoff_limit.saturating_mul(at_once)).ok(),
        template: pod_template(training, &labels, stage),
        active_deadline_seconds: training.spec.active_deadline_seconds.map(i64::from),
        // A Pod is replaced only when it has ended: two of them never write the same files.
        pod_replacement_policy: Some("Failed".to_owned()),
        pod_failure_policy: Some(failure_policy(CONTAINER)),
        ..JobSpec::default()
    };
    if let Some((count, at_once)) = indexes {
        spec.completion_mode = Some("Indexed".to_owned());
        spec.completions = i32::try_from(count).ok();
        spec.parallelism = i32::try_from(at_once).ok();
    }
    Job { metadata, spec: Some(spec), status: None }
}

fn pod_template(training: &ValidTraining, labels: &crate::naming::Labels, stage: Stage<'_>) -> PodTemplateSpec {
    let access = accesses(training, &stage);
    let mut arguments = Arguments([stage.arguments.0, stage.manner.0].concat())
        .with("host", "0.0.0.0")
        .with("metrics-port", METRICS_PORT)
        .with("termination-message", TERMINATION_MESSAGE_PATH);
    if !access.is_empty() {
        arguments = arguments.with("cache", in_workspace("cache"));
    }
    for access in &access {
        arguments = access.add_to(arguments);
    }
    let options = stage_options(&training.spec.pod, stage.pod);
    let program = Program {
        container: CONTAINER,
        binary: "cllm-trainer",
        arguments,
        image: &training.image,
        ports: stage.division.ports(),
        mounts: Mounts {
            workspace: Some(&training.workspace.name),
            read: stage.reads.iter().filter_map(|(_, location)| location.claim()).collect(),
            written: stage.writes.and_then(Location::claim).into_iter().collect(),
            cache: None,
            access,
        },
        resources: options.resources.clone(),
    };
    let mut template = template(&options, labels, program);
    if let Some(pod) = &mut template.spec {
        pod.restart_policy = Some("Never".to_owned());
        pod.termination_grace_period_seconds = Some(GRACE_SECONDS);
        // A Pod of an Indexed Job has a host name; in the Service's domain others find it by that.
        let is_found = matches!(stage.division, Division::Workers { .. });
        pod.subdomain = is_found.then(|| workers::service_name(training));
    }
    template
}

/// What a stage says of itself stands instead of what is said of all.
fn stage_options(all: &PodOptions, stage: &StagePodOptions) -> PodOptions {
    // its extra arguments are among those that decide over its result
    let StagePodOptions { resources, node_selector, tolerations, extra_args: _ } = stage.clone();
    PodOptions {
        resources: resources.or_else(|| all.resources.clone()),
        node_selector: node_selector.unwrap_or_else(|| all.node_selector.clone()),
        tolerations: tolerations.unwrap_or_else(|| all.tolerations.clone()),
        ..all.clone()
    }
}
