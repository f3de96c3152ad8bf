//! What the API server admits: a corpus of valid and invalid resources with the message that a person sees, and the scale subresource.

mod applied;
mod immutable;
mod model;
mod printed;
mod scale;
mod support;
mod training;
