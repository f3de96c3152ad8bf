//! What the API server is asked: whose a token is, and whether somebody may.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::timeout;

use crate::authentication::answers::{Answers, Question};
use crate::authentication::identity::Identity;

const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// What somebody wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The group of the API.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Where.
    pub namespace: String,
    /// The kind of object, as `pods`.
    pub resource: String,
    /// Of it, as `cllm_tokens_per_second`.
    pub subresource: String,
    /// Its name, or `*`.
    pub name: String,
}

/// The API server could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    #[error("the API server did not review it: {0}")]
    Refused(Box<kube::Error>),
    #[error("the API server did not review it in time")]
    Late,
}

/// Asks, and remembers answers for a few seconds, yes and no alike.
pub(super) struct Reviews {
    client: Client,
    tokens: Answers<Option<Identity>>,
    permissions: Answers<bool>,
}

impl Reviews {
    pub(super) fn new(client: Client) -> Self {
        Self { client, tokens: Answers::new(), permissions: Answers::new() }
    }

    /// Whose the token is; `None` if it is nobody's.
    pub(super) async fn identity(&self, token: &str) -> Result<Option<Identity>, ReviewError> {
        let question = Question::of(token.as_bytes());
        if let Some(answer) = self.tokens.known(question, Instant::now()) {
            return Ok(answer);
        }
        let spec = TokenReviewSpec { token: Some(token.to_owned()), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = self.ask(&review).await?.status.unwrap_or_default();
        let identity = identity_of(status);
        self.tokens.remember(question, identity.clone(), Instant::now());
        Ok(identity)
    }

    /// Whether that identity may.
    pub(super) async fn allows(&self, identity: &Identity, attributes: &Attributes) -> Result<bool, ReviewError> {
        let spec = access(identity, attributes);
        let question = Question::of(serde_json::json!(spec).to_string().as_bytes());
        if let Some(answer) = self.permissions.known(question, Instant::now()) {
            return Ok(answer);
        }
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let status = self.ask(&review).await?.status;
        let allows = status.is_some_and(|status| status.allowed && !status.denied.unwrap_or_default());
        self.permissions.remember(question, allows, Instant::now());
        Ok(allows)
    }

    async fn ask<K>(&self, review: &K) -> Result<K, ReviewError>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let reviews = Api::<K>::all(self.client.clone());
        let asked = timeout(ANSWERED_WITHIN, async { reviews.create(&PostParams::default(), review).await });
        asked.await.map_err(|_| ReviewError::Late)?.map_err(|error| ReviewError::Refused(Box::new(error)))
    }
}

fn identity_of(status: TokenReviewStatus) -> Option<Identity> {
    let is_valid = status.authenticated.unwrap_or_default() && status.error.is_none_or(|error| error.is_empty());
    let UserInfo { username, uid, groups, extra } = status.user.filter(|_| is_valid)?;
    let identity = Identity {
        user: username.filter(|name| !name.is_empty())?,
        uid,
        groups: groups.unwrap_or_default(),
        extra: extra.unwrap_or_default(),
    };
    Some(identity.authenticated())
}

/// The name of an object makes a `get` of it, also where it is `*`: so the API server reads such paths itself.
fn access(identity: &Identity, attributes: &Attributes) -> SubjectAccessReviewSpec {
    let Identity { user, uid, groups, extra } = identity.clone();
    let Attributes { group, version, namespace, resource, subresource, name } = attributes.clone();
    SubjectAccessReviewSpec {
        user: Some(user),
        uid,
        groups: Some(groups),
        extra: Some(extra),
        non_resource_attributes: None,
        resource_attributes: Some(ResourceAttributes {
            group: Some(group.to_owned()),
            version: Some(version.to_owned()),
            namespace: Some(namespace),
            resource: Some(resource),
            subresource: Some(subresource),
            name: Some(name),
            verb: Some("get".to_owned()),
            field_selector: None,
            label_selector: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_somebodys_only_if_the_review_leaves_no_doubt() {
        let user = json!({"username": "hpa", "groups": ["system:serviceaccounts"], "uid": "1"});
        for (status, expected) in [
            (json!({"authenticated": true, "user": user}), Some("hpa")),
            (json!({"authenticated": false, "user": user}), None),
            (json!({"user": user}), None),
            (json!({"authenticated": true, "user": user, "error": "no such audience"}), None),
            (json!({"authenticated": true, "user": {"username": ""}}), None),
            (json!({"authenticated": true}), None),
            (json!({}), None),
        ] {
            let identity = identity_of(serde_json::from_value(status.clone()).unwrap());
            assert_eq!(identity.as_ref().map(|identity| identity.user.as_str()), expected, "{status}");
            assert!(identity.is_none_or(|identity| identity.is_authenticated()), "{status}");
        }
    }
}
