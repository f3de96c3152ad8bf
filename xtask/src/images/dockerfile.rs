//! The images for those who have a Docker engine: Dockerfiles that take the root file system from this very program.

use std::fmt::Write;

use super::configuration::Configuration;
use super::description::{Description, Image};

/// The Dockerfile of an image.
pub(crate) fn dockerfile(description: &Description, image: &Image) -> anyhow::Result<String> {
    let Configuration { user, environment, entry_point, ports, working_folder, labels } =
        Configuration::of_image(description, image);
    let (builder, rust_version) = (&description.builder, description.rust_version()?);
    let name = &image.name;
    let Steps { tools, run, flag } = Steps::of(image);
    let mut text = format!(
        r"# {summary}.
# docker build --file images/{name}.Dockerfile --tag {name}:{version} .
FROM {builder} AS build
ENV RUSTUP_TOOLCHAIN={rust_version}
{tools}WORKDIR /cllm
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/cllm/target,sharing=locked \
    {run}cargo run --locked --package xtask -- images {flag}--image {name} --root-file-system /root-file-system

FROM scratch
COPY --from=build /root-file-system/ /
",
        summary = image.description,
        version = env!("CARGO_PKG_VERSION"),
    );
    for (key, value) in labels {
        writeln!(text, "LABEL {key}=\"{value}\"")?;
    }
    for (key, value) in environment {
        writeln!(text, "ENV {key}={value}")?;
    }
    for port in ports {
        writeln!(text, "EXPOSE {port}")?;
    }
    write!(text, "USER {user}\nWORKDIR {working_folder}\nENTRYPOINT [\"{entry_point}\"]\n")?;
    Ok(text)
}

/// What images for CUDA need beyond the others: a C++ compiler and pip for NVIDIA's, and its environment.
struct Steps {
    tools: &'static str,
    run: &'static str,
    flag: &'static str,
}

impl Steps {
    fn of(image: &Image) -> Self {
        if !image.cuda {
            return Self { tools: "", run: "", flag: "" };
        }
        Self {
            tools: "RUN apt-get update && apt-get install --yes --no-install-recommends g++ python3-pip\n",
            run: "bash tests/cuda/environment.sh ",
            flag: "--cuda ",
        }
    }
}

/// All images, one a line, for those who copy them into a registry of their own.
pub(crate) fn list(description: &Description) -> String {
    let names = description.images.iter().map(|image| format!("{}:{}", image.name, env!("CARGO_PKG_VERSION")));
    names.collect::<Vec<_>>().join("\n") + "\n"
}
