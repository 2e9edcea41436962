//! The heads with their losses: a block takes one row from its last hidden state to the gradient.
#include "attention.h"

/// The activations.
#define RELU 0
#define TANH 1
#define GELU 2

/// Activation, dropout, classifier, cross-entropy against soft targets, and the way back to the pooler's output. With `several`, each label
/// has a sigmoid and a cross-entropy of its own, of which the loss is the mean.
struct Classify {
    const number *pooled; // (rows, hidden): before the activation
    const float *weight, *bias; // (labels, hidden), (labels)
    const float *targets, *weights; // (rows, labels), (rows); null in inference
    float *kept; // (rows, hidden): after dropout
    float *logits, *dlogits; // (rows, labels)
    double *losses; // (rows)
    number *dpooled; // (rows, hidden)
    Dropout drop;
    float loss_scale;
    u32 hidden, labels, several, activation;
};

/// The gradients of the classifier and of the pooler's bias. The grid is (labels + 1, hidden / 256).
struct ClassifyGradients {
    const float *kept, *dlogits;
    const number *dpooled;
    float *dweight, *dbias, *dpooler_bias;
    u32 rows, hidden, labels, accumulate;
};

/// Start and end logits of every token of a row, the two cross-entropies, and the gradient of the last hidden states.
struct Spans {
    const number *last; // (tokens, hidden)
    const float *weight, *bias; // (2, hidden), (2)
    float *logits; // (tokens, 2)
    const u32 *cu_seqlens, *answers; // (rows + 1), (rows, 2); no answers in inference
    double *losses; // (rows, 2)
    number *dlast; // (tokens, hidden)
    float *partials; // (rows, 2 hidden + 2): the gradients of weight and bias
    Dropout drop;
    float loss_scale;
    u32 hidden;
};

/// A cross-entropy over numbers that lie `stride` apart: what exp is divided by, as a logarithm. By the lanes of a warp.
DEVICE double log_total(const float *logits, u32 count, u32 stride) {
    float highest = -INFINITY;
    for (u32 i = lane(); i < count; i += 32) highest = logits[i * stride] > highest ? logits[i * stride] : highest;
    highest = warp_max(highest);
    double total = 0;
    for (u32 i = lane(); i < count; i += 32) total += exp((double)logits[i * stride] - highest);
    return log(warp_sum(total)) + highest;
}

/// The loss and the gradient of a row's logits, by the lanes of a warp.
DEVICE void row_loss(const Classify &a, u32 row) {
    const float *logits = a.logits + (u64)row * a.labels, *targets = a.targets + (u64)row * a.labels;
    double log_sum = log_total(logits, a.labels, 1), weight = (double)a.weights[row] * a.loss_scale, loss = 0;
    for (u32 l = lane(); l < a.labels; l += 32) {
        double target = targets[l];
        if (target != 0) loss += weight * target * (log_sum - logits[l]);
        a.dlogits[(u64)row * a.labels + l] = (float)(weight * (exp(logits[l] - log_sum) - target));
    }
    loss = warp_sum(loss);
    if (lane() == 0) a.losses[row] = loss;
}

/// The same where each label is for itself.
DEVICE void row_loss_of_several(const Classify &a, u32 row) {
    const float *logits = a.logits + (u64)row * a.labels, *targets = a.targets + (u64)row * a.labels;
    double weight = (double)a.weights[row] * a.loss_scale / a.labels, loss = 0;
    for (u32 l = lane(); l < a.labels; l += 32) {
        double logit = logits[l], target = targets[l], small = exp(logit < 0 ? logit : -logit);
        loss += weight * ((logit > 0 ? logit : 0) + log1p(small) - target * logit);
        a.dlogits[(u64)row * a.labels + l] = (float)(weight * ((logit < 0 ? small : 1) / (1 + small) - target));
    }
    loss = warp_sum(loss);
    if (lane() == 0) a.losses[row] = loss;
}

/// An activation's value and slope.
DEVICE float2 activated(u32 activation, float x) {
    if (activation == GELU) return gelu(x);
    if (activation == RELU) return x > 0 ? make_float2(x, 1) : make_float2(x < 0 ? 0 : x, 0);
    float y = tanhf(x);
    return make_float2(y, 1 - y * y);
}

KERNEL(classify, Classify, 256) {
    u32 row = blockIdx.x;
    u64 at = (u64)row * a.hidden;
    RowMask mask = row_mask(a.drop, row);
    for (u32 c = threadIdx.x; c < a.hidden; c += 256) {
        float x = widen(a.pooled[at + c]);
        x = activated(a.activation, x).x;
        a.kept[at + c] = a.drop.threshold ? x * kept(mask, c) : x;
    }
    __syncthreads();
    for (u32 l = warp(); l < a.labels; l += 8) {
        float sum = 0;
        for (u32 c = lane(); c < a.hidden; c += 32) sum += a.kept[at + c] * a.weight[(u64)l * a.hidden + c];
        sum = warp_sum(sum);
        if (lane() == 0) a.logits[(u64)row * a.labels + l] = sum + a.bias[l];
    }
    __syncthreads();
    if (!a.targets) return;
    if (warp() == 0) a.several ? row_loss_of_several(a, row) : row_loss(a, row);
    __syncthreads();
    for (u32 c = threadIdx.x; c < a.hidden; c += 256) {
        float d = 0, x = widen(a.pooled[at + c]);
        for (u32 l = 0; l < a.labels; l++) d += a.dlogits[(u64)row * a.labels + l] * a.weight[(u64)l * a.hidden + c];
        if (a.drop.threshold) d *= kept(mask, c);
        put(a.dpooled + at + c, d * activated(a.activation, x).y);
    }
}

KERNEL(classify_gradients, ClassifyGradients, 256) {
    u32 label = blockIdx.x, c = blockIdx.y * 256 + threadIdx.x;
    if (c < a.hidden) {
        float sum = 0;
        for (u32 row = 0; row < a.rows; row++) {
            u64 at = (u64)row * a.hidden + c;
            sum += label < a.labels ? a.dlogits[(u64)row * a.labels + label] * a.kept[at] : widen(a.dpooled[at]);
        }
        float *to = label < a.labels ? a.dweight + (u64)label * a.hidden + c : a.dpooler_bias + c;
        *to = a.accumulate ? *to + sum : sum;
    }
    if (c == 0 && label < a.labels) {
        float sum = 0;
        for (u32 row = 0; row < a.rows; row++) sum += a.dlogits[(u64)row * a.labels + label];
        a.dbias[label] = a.accumulate ? a.dbias[label] + sum : sum;
    }
}

/// A number of the last hidden states after dropout.
DEVICE float after_dropout(const Spans &a, const RowMask &mask, u64 first, u32 i) {
    float x = widen(a.last[first + i]);
    return a.drop.threshold ? x * kept(mask, i) : x;
}

KERNEL(spans, Spans, 256) {
    __shared__ float dlogits[2 * LONGEST];
    u32 row = blockIdx.x, token = a.cu_seqlens[row], tokens = a.cu_seqlens[row + 1] - token;
    u64 first = (u64)token * a.hidden;
    float *logits = a.logits + 2 * (u64)token;
    RowMask mask = row_mask(a.drop, row);
    for (u32 t = warp(); t < tokens; t += 8) {
        float start = 0, end = 0;
        for (u32 c = lane(); c < a.hidden; c += 32) {
            float x = after_dropout(a, mask, first, t * a.hidden + c);
            start += x * a.weight[c];
            end += x * a.weight[a.hidden + c];
        }
        start = warp_sum(start);
        end = warp_sum(end);
        if (lane() == 0) {
            logits[2 * t] = start + a.bias[0];
            logits[2 * t + 1] = end + a.bias[1];
        }
    }
    __syncthreads();
    if (!a.answers) return;
    if (warp() < 2) {
        u32 side = warp(), answer = a.answers[2 * row + side];
        double log_sum = log_total(logits + side, tokens, 2), weight = 0.5 * a.loss_scale;
        for (u32 t = lane(); t < tokens; t += 32)
            dlogits[2 * t + side] = (float)(weight * (exp(logits[2 * t + side] - log_sum) - (t == answer ? 1 : 0)));
        if (lane() == 0) a.losses[2 * row + side] = weight * (log_sum - logits[2 * answer + side]);
    }
    __syncthreads();
    float *partials = a.partials + (u64)row * (2 * a.hidden + 2);
    for (u32 c = threadIdx.x; c < a.hidden; c += 256) {
        float start = 0, end = 0;
        for (u32 t = 0; t < tokens; t++) {
            float x = after_dropout(a, mask, first, t * a.hidden + c), d0 = dlogits[2 * t], d1 = dlogits[2 * t + 1];
            start += d0 * x;
            end += d1 * x;
            float d = d0 * a.weight[c] + d1 * a.weight[a.hidden + c];
            put(a.dlast + first + (u64)t * a.hidden + c, a.drop.threshold ? d * kept(mask, t * a.hidden + c) : d);
        }
        partials[c] = start;
        partials[a.hidden + c] = end;
    }
    if (threadIdx.x < 2) {
        float sum = 0;
        for (u32 t = 0; t < tokens; t++) sum += dlogits[2 * t + threadIdx.x];
        partials[2 * a.hidden + threadIdx.x] = sum;
    }
}
