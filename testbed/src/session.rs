//! Signed-in users.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::project::Project;

/// What signing up or in gives.
#[derive(Clone, Debug)]
pub struct Session {
    /// Names the user in each request, for `jwt_expiry_s` seconds.
    pub access_token: String,
    /// Gets a new access token, once.
    pub refresh_token: String,
    /// The user's id, as `auth.uid()` gives it.
    pub user_id: String,
}

impl Project {
    /// Signs a new user up. The address must be new to the project.
    pub async fn sign_up(&self, email: &str, password: &str) -> Result<Session> {
        self.authenticate("/auth/v1/signup", &json!({ "email": email, "password": password })).await
    }

    /// Signs a user in who has signed up.
    pub async fn sign_in(&self, email: &str, password: &str) -> Result<Session> {
        let body = json!({ "email": email, "password": password });
        self.authenticate("/auth/v1/token?grant_type=password", &body).await
    }

    /// Signs up a user whom no other test knows.
    pub async fn any_user(&self) -> Result<Session> {
        let email = format!("user-{}@example.com", uuid::Uuid::new_v4().simple());
        self.sign_up(&email, "a password for tests").await
    }

    async fn authenticate(&self, path: &str, body: &Value) -> Result<Session> {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url));
        let answer = request.header("apikey", &self.publishable_key).json(body).send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let session = || {
            let body: Value = serde_json::from_str(&text).ok()?;
            let field = |value: &Value| value.as_str().map(str::to_owned);
            Some(Session {
                access_token: field(&body["access_token"])?,
                refresh_token: field(&body["refresh_token"])?,
                user_id: field(&body["user"]["id"])?,
            })
        };
        session().ok_or_else(|| Error::Answer { path: path.to_owned(), status, body: text.clone() })
    }
}
