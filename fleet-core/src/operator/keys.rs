//! Who may come in: operators by their keys, and devices that were vouched for.

use super::client::{Ask, Client};
use super::error::ClientError;
use crate::api::{
    Done, KeyCreate, KeyCreated, KeyRotate, KeyView, Me, PreauthCreate, PreauthView, Route,
};

impl Client {
    /// The devices that are let in before they have come.
    pub async fn preauth_list(&self) -> Result<Vec<PreauthView>, ClientError> {
        self.call(Route::PreauthList, Ask::default()).await
    }

    /// Lets devices in before they have come: all of these, or none.
    pub async fn preauth_create(
        &self,
        request: &PreauthCreate,
    ) -> Result<Vec<PreauthView>, ClientError> {
        self.call(Route::PreauthCreate, Ask::body(request)?).await
    }

    /// Takes that back.
    pub async fn preauth_delete(&self, fingerprint: &str) -> Result<Done, ClientError> {
        self.call(Route::PreauthDelete(fingerprint.to_owned()), Ask::default()).await
    }

    /// The keys, without their secrets.
    pub async fn key_list(&self) -> Result<Vec<KeyView>, ClientError> {
        self.call(Route::KeyList, Ask::default()).await
    }

    /// A new key; the answer is the one time its text is shown.
    pub async fn key_create(&self, request: &KeyCreate) -> Result<KeyCreated, ClientError> {
        self.call(Route::KeyCreate, Ask::body(request)?).await
    }

    /// Ends a key.
    pub async fn key_revoke(&self, id: &str) -> Result<Done, ClientError> {
        self.call(Route::KeyRevoke(id.to_owned()), Ask::default()).await
    }

    /// Makes a key's successor; the old one goes on for a while.
    pub async fn key_rotate(
        &self,
        id: &str,
        request: &KeyRotate,
    ) -> Result<KeyCreated, ClientError> {
        self.call(Route::KeyRotate(id.to_owned()), Ask::body(request)?).await
    }

    /// Who asks.
    pub async fn me(&self) -> Result<Me, ClientError> {
        self.call(Route::Me, Ask::default()).await
    }
}
