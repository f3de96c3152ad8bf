//! What an evaluation measures, and in which order.

use std::num::NonZeroUsize;
use std::time::Duration;

use cllm_crds::report::{
    ArmCheckpoint, BlockSizePoint, CheckpointSummary, Conditions, Convergence, Perplexity, PromptResult,
    REPORT_VERSION, Report,
};
use cllm_engine::{
    COST_CONTEXT, Checkpoint, ComputeOptions, Generation, Model, Sampling, Workspace, forward_cost_within,
};

use super::arms::{ArmKind, Contestants, MeasuredArm, Totals, kinds, prompt_arm};
use super::convergence::BlockSums;
use super::cost::Costs;
use super::metric::Judge;
use super::pass::Pass;
use super::perplexity::{Surprise, perplexity, surprise};
use super::prompts::{Prompt, choose};
use super::report::{by_perplexity, quality, speedup};
use super::run::EvaluateArguments;
use super::temperatures::{GREEDY, sampling};
use crate::failure::{Failure, Result};
use crate::progress::{Reporter, now};

/// Block sizes of the curve.
const BLOCK_SIZES: [usize; 9] = [2, 3, 4, 6, 8, 12, 16, 24, 32];
/// Prompts of the curve, and of the blocks whose convergence is counted, at most.
const FEW_PROMPTS: usize = 100;
/// Rows of the forwards that are timed.
const COST_ROWS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
/// What timing them may take each time; of a large model only the fewest and the most rows are timed.
const COST_TIME: Duration = Duration::from_secs(2);

/// Both sides with the prompts and what judges their answers.
#[derive(Debug)]
pub(super) struct Evaluation<'a> {
    arguments: &'a EvaluateArguments,
    target: Checkpoint,
    cllm: Checkpoint,
    contestants: Contestants,
    /// None where an answer is as good as it is the target's.
    judge: Option<Judge>,
    prompts: Vec<Prompt>,
}

impl<'a> Evaluation<'a> {
    /// Loads everything.
    pub(super) fn new(arguments: &'a EvaluateArguments, threads: usize) -> Result<Self> {
        let (target, cllm) = (Checkpoint::open(&arguments.target)?, Checkpoint::open(&arguments.model)?);
        let options = ComputeOptions { threads, ..ComputeOptions::default() };
        let load = |checkpoint: &Checkpoint| Model::load(checkpoint, options).map_err(Failure::engine);
        let contestants =
            Contestants { target: load(&target)?, cllm: load(&cllm)?, max_new_tokens: arguments.max_new_tokens.get() };
        let judge = Judge::new(arguments.metric, arguments.database.as_deref())?;
        let prompts = choose(arguments, &target)?;
        Ok(Self { arguments, target, cllm, contestants, judge, prompts })
    }

    /// Measures everything.
    pub(super) fn measure(&self, digest: &str, target_digest: &str, reporter: &mut Reporter) -> Result<Report> {
        let mut workspace = Workspace::new(&self.contestants.target);
        let curve = self.curve(&mut workspace, reporter)?;
        let fastest = curve.iter().max_by(|a, b| a.decode_tokens_per_second.total_cmp(&b.decode_tokens_per_second));
        let best = fastest.map_or(1, |point| point.block_size);
        let convergence = self.convergence(&mut workspace, reporter)?;
        let kinds = kinds(self.arguments.block_size, best);
        let greedy = self.pass(&kinds, GREEDY, 0, &mut workspace, reporter)?;
        let conditions = self.conditions();
        let figures =
            |pass: &Pass, temperature: f64| pass.figures(temperature, &conditions, self.arguments.metric, best);
        let mut sampled = Vec::new();
        for (passes, &temperature) in (1..).zip(self.arguments.temperatures.sampled()) {
            let pass = self.pass(&kinds, temperature, passes, &mut workspace, reporter)?;
            let found = figures(&pass, temperature);
            sampled.push(if self.judge.is_some() {
                found
            } else {
                by_perplexity(found, &self.perplexity(&pass.answers, &mut workspace, reporter)?)
            });
        }
        let perplexity = self.perplexity(&greedy.answers, &mut workspace, reporter)?;
        let of_greedy = figures(&greedy, GREEDY);
        let of_greedy = if self.judge.is_some() { of_greedy } else { by_perplexity(of_greedy, &perplexity) };
        Ok(Report {
            version: REPORT_VERSION,
            created_at: now(),
            target: summary(target_digest, &self.target),
            cllm: summary(digest, &self.cllm),
            speedup: of_greedy.speedup,
            quality: of_greedy.quality,
            intervals: Some(of_greedy.intervals),
            conditions,
            arms: of_greedy.arms,
            forward_cost: greedy.costs.means(),
            block_sizes: curve,
            accepted_len_histogram: of_greedy.accepted_len_histogram,
            target_accepted_len_histogram: of_greedy.target_accepted_len_histogram,
            convergence: Some(convergence),
            perplexity: Some(perplexity),
            sampled,
            prompts: greedy.into_prompts(),
        })
    }

    /// The trained checkpoint at every block size, beside the target one token at a time, on the first prompts.
    fn curve(&self, workspace: &mut Workspace, reporter: &mut Reporter) -> Result<Vec<BlockSizePoint>> {
        let mut kinds = vec![ArmKind::autoregressive(ArmCheckpoint::Target)];
        let sizes = BLOCK_SIZES.iter().filter_map(|&size| NonZeroUsize::new(size));
        kinds.extend(sizes.map(|size| ArmKind::jacobi(ArmCheckpoint::Cllm, size)));
        let (mut totals, greedy) = (vec![Totals::default(); kinds.len()], Sampling::default());
        for (turn, Prompt { tokens, .. }) in (0..).zip(self.prompts.iter().take(FEW_PROMPTS)) {
            reporter.check_interruption()?;
            if turn == 0 {
                // touches all memory once before anything is timed
                self.contestants.decode(&kinds, tokens, &greedy, 0, workspace)?;
            }
            let generations = self.contestants.decode(&kinds, tokens, &greedy, turn, workspace)?;
            for (totals, generation) in totals.iter_mut().zip(&generations) {
                totals.add(generation, 0.0, false);
            }
        }
        let (target, cllm) = totals.split_at(1);
        Ok(kinds[1..].iter().zip(cllm).map(|(kind, totals)| totals.point(*kind, &target[0])).collect())
    }

    /// How the blocks of both sides come to their fixed points, on the first prompts.
    fn convergence(&self, workspace: &mut Workspace, reporter: &mut Reporter) -> Result<Convergence> {
        let block_size = self.arguments.block_size;
        let kinds =
            [ArmCheckpoint::Target, ArmCheckpoint::Cllm].map(|checkpoint| ArmKind::jacobi(checkpoint, block_size));
        let mut sums = [BlockSums::default(); 2];
        for prompt in self.prompts.iter().take(FEW_PROMPTS) {
            reporter.check_interruption()?;
            for (kind, of_kind) in kinds.iter().zip(&mut sums) {
                let blocks = self.contestants.trajectories(*kind, &prompt.tokens, workspace)?;
                for block in &blocks {
                    of_kind.add(block);
                }
            }
        }
        let [target, cllm] = sums.each_ref().map(BlockSums::means);
        let prompts = self.prompts.len().min(FEW_PROMPTS) as u64;
        Ok(Convergence { prompts, block_size: block_size.get() as u32, target, cllm })
    }

    /// All arms on all prompts, after `passes` at other temperatures.
    fn pass(
        &self,
        kinds: &[ArmKind],
        temperature: f64,
        passes: u64,
        workspace: &mut Workspace,
        reporter: &mut Reporter,
    ) -> Result<Pass> {
        let prompts = self.prompts.len() as u64;
        let all = prompts * (1 + self.arguments.temperatures.sampled().len() as u64);
        let mut pass = Pass::new(kinds);
        for (turn, prompt) in (0..).zip(&self.prompts) {
            reporter.check_interruption()?;
            if passes == 0 && Costs::is_due(turn, prompts) {
                pass.costs.add(forward_cost_within(&self.contestants.cllm, &COST_ROWS, COST_CONTEXT, COST_TIME));
            }
            let sampling = sampling(temperature, self.arguments.seed, prompt.index);
            let generations = self.contestants.decode(kinds, &prompt.tokens, &sampling, turn, workspace)?;
            pass.add(self.judged(prompt, kinds, &generations), &generations, prompt.encode_seconds);
            reporter.update(passes * prompts + turn + 1, all, &self.figures(&pass.arms));
        }
        Ok(pass)
    }

    /// How sure both sides are of the target's answers.
    fn perplexity(
        &self,
        answers: &[Vec<u32>],
        workspace: &mut Workspace,
        reporter: &mut Reporter,
    ) -> Result<Perplexity> {
        let mut surprises = Vec::with_capacity(answers.len());
        for (prompt, answer) in self.prompts.iter().zip(answers) {
            reporter.check_interruption()?;
            let mut of = |checkpoint| surprise(self.contestants.model(checkpoint), workspace, &prompt.tokens, answer);
            let (target, cllm) = (of(ArmCheckpoint::Target)?, of(ArmCheckpoint::Cllm)?);
            surprises.push(Surprise { tokens: answer.len(), target, cllm });
        }
        Ok(perplexity(&surprises, self.arguments.seed))
    }

    fn judged(&self, prompt: &Prompt, kinds: &[ArmKind], generations: &[Generation]) -> PromptResult {
        let tokens = |checkpoint| {
            let found = kinds.iter().zip(generations).find(|(kind, _)| kind.checkpoint == checkpoint);
            found.map_or(&[][..], |(_, generation)| &generation.tokens)
        };
        let (target, cllm) = (tokens(ArmCheckpoint::Target), tokens(ArmCheckpoint::Cllm));
        let agrees_with_target = target == cllm;
        let (target_correct, cllm_correct) = match &self.judge {
            Some(judge) => self.correct(judge, prompt, [target, cllm]),
            None => (true, agrees_with_target),
        };
        PromptResult {
            index: u64::from(prompt.index),
            agrees_with_target,
            target_correct,
            cllm_correct,
            arms: generations.iter().map(prompt_arm).collect(),
        }
    }

    /// Whether the answers of both sides are right.
    fn correct(&self, judge: &Judge, prompt: &Prompt, [target, cllm]: [&[u32]; 2]) -> (bool, bool) {
        let reference = judge.reference(&prompt.reference);
        let is_correct = |tokens: &[u32], checkpoint: &Checkpoint| {
            judge.is_correct(&checkpoint.tokenizer().decode(tokens), &reference)
        };
        let target_correct = is_correct(target, &self.target);
        let cllm_correct = if target == cllm { target_correct } else { is_correct(cllm, &self.cllm) };
        (target_correct, cllm_correct)
    }

    fn figures(&self, arms: &[MeasuredArm]) -> Vec<(&'static str, String)> {
        let speedup = speedup(
            arms,
            self.arguments.block_size.get() as u32,
            self.arguments.block_size.get() as u32,
            String::new(),
        );
        let quality = quality(arms, self.arguments.metric.name());
        vec![
            ("tokensPerForward", speedup.tokens_per_forward),
            ("overTarget", speedup.over_target),
            ("qualityTarget", quality.target),
            ("qualityCllm", quality.cllm),
        ]
    }

    fn conditions(&self) -> Conditions {
        let (hardware, target) = (self.contestants.cllm.hardware(), self.contestants.target.hardware());
        Conditions {
            hardware: hardware.processor,
            threads: hardware.threads as u32,
            instruction_set: hardware.instruction_set.to_owned(),
            target_dtype: Some(target.storage).filter(|storage| *storage != hardware.storage),
            dtype: hardware.storage,
            cllm_version: env!("CARGO_PKG_VERSION").to_owned(),
            concurrency: 1,
            block_size: self.arguments.block_size.get() as u32,
            max_new_tokens: self.arguments.max_new_tokens.get() as u32,
            dataset: self.arguments.data.dataset.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            prompts: self.prompts.len() as u64,
            sampling: "greedy".to_owned(),
            seed: self.arguments.seed,
        }
    }
}

fn summary(digest: &str, checkpoint: &Checkpoint) -> CheckpointSummary {
    CheckpointSummary { digest: digest.to_owned(), parameters: checkpoint.parameters() }
}
