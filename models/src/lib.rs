//! BERT and DistilBERT over packed tokens.
