// SPDX-License-Identifier: Apache-2.0

#include "qeff/transformer/gradient_testutil.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "qeff/util/check.h"
#include "qeff/util/random.h"

namespace qeff {
namespace {

using Vector = std::vector<double>;
using Rows = std::vector<Vector>;

// Takes the parts of `values` one after another.
class Parts {
 public:
  explicit Parts(const Vector& values) : values_(values) {}

  Vector Take(int64_t count) {
    const auto begin = values_.begin() + next_;
    next_ += count;
    QEFF_CHECK(next_ <= static_cast<int64_t>(values_.size()));
    return Vector(begin, begin + count);
  }
  int64_t left() const { return static_cast<int64_t>(values_.size()) - next_; }

 private:
  const Vector& values_;
  int64_t next_ = 0;
};

struct Norm {
  Vector weight, bias;
};

struct Linear {
  Vector weight, bias;

  Rows operator()(const Rows& x) const {
    const size_t in = x[0].size(), out = weight.size() / in;
    Rows y(x.size(), Vector(out));
    for (size_t r = 0; r < x.size(); ++r) {
      for (size_t o = 0; o < out; ++o) {
        y[r][o] = bias.empty() ? 0.0 : bias[o];
        for (size_t i = 0; i < in; ++i) {
          y[r][o] += x[r][i] * weight[o * in + i];
        }
      }
    }
    return y;
  }
};

void Add(const Rows& y, Rows& x) {
  for (size_t r = 0; r < x.size(); ++r) {
    for (size_t i = 0; i < x[r].size(); ++i) x[r][i] += y[r][i];
  }
}

double Act(Activation activation, double x) {
  const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(u));
    case Activation::kRelu:
      return std::max(x, 0.0);
  }
  return 0;
}

class Block {
 public:
  Block(const TransformerSpec& spec, const std::vector<int64_t>& lengths,
        const Vector& values)
      : spec_(spec), lengths_(lengths) {
    Parts parts(values);
    const int64_t h = spec.hidden_size, q = spec.q_size(), kv = spec.kv_size();
    const auto norm = [&](int64_t size, bool there, bool bias) {
      return Norm{parts.Take(there ? size : 0),
                  parts.Take(there && bias ? size : 0)};
    };
    const auto linear = [&](int64_t out, int64_t in, bool bias) {
      return Linear{parts.Take(out * in), parts.Take(bias ? out : 0)};
    };
    attention_norm_ = norm(h, true, spec.norm_bias);
    ffn_norm_ = norm(h, true, spec.norm_bias);
    q_norm_ = norm(spec.head_dim, spec.qk_norm, false);
    k_norm_ = norm(spec.head_dim, spec.qk_norm, false);
    q_ = linear(q, h, spec.qkv_bias);
    k_ = linear(kv, h, spec.qkv_bias);
    v_ = linear(kv, h, spec.qkv_bias);
    o_ = linear(h, q, spec.attention_output_bias);
    if (spec.gated_ffn) gate_ = linear(spec.ffn_size, h, spec.ffn_bias);
    up_ = linear(spec.ffn_size, h, spec.ffn_bias);
    down_ = linear(h, spec.ffn_size, spec.ffn_bias);
    while (parts.left() > 0) x_.push_back(parts.Take(h));
  }

  Vector Run() const {
    Vector y;
    auto row = x_.begin();
    for (int64_t length : lengths_) {
      for (const Vector& out : RunSequence(Rows(row, row + length))) {
        y.insert(y.end(), out.begin(), out.end());
      }
      row += length;
    }
    QEFF_CHECK(row == x_.end());
    return y;
  }

 private:
  Rows RunSequence(Rows x) const {
    const Rows n = Normed(attention_norm_, x);
    Rows q = q_(n), k = k_(n), v = v_(n);
    for (Rows* part : {&q, &k, &v}) Clip(*part);
    if (spec_.qk_norm) {
      NormHeads(q_norm_, q);
      NormHeads(k_norm_, k);
    }
    if (spec_.position == PositionKind::kRope) {
      Rotate(q);
      Rotate(k);
    }
    Add(o_(Attention(q, k, v)), x);
    const Rows m = Normed(ffn_norm_, x);
    Rows inner = spec_.gated_ffn ? gate_(m) : up_(m);
    const Rows up = up_(m);
    for (size_t r = 0; r < inner.size(); ++r) {
      for (size_t i = 0; i < inner[r].size(); ++i) {
        inner[r][i] = Act(spec_.activation, inner[r][i]) *
                      (spec_.gated_ffn ? up[r][i] : 1.0);
      }
    }
    Add(down_(inner), x);
    return x;
  }

  Rows Normed(const Norm& norm, Rows x) const {
    for (Vector& row : x) {
      const double n = static_cast<double>(row.size());
      double mean = 0, squares = 0;
      if (spec_.norm == NormKind::kLayerNorm) {
        for (double v : row) mean += v / n;
      }
      for (double v : row) squares += (v - mean) * (v - mean);
      const double scale = 1 / std::sqrt(squares / n + spec_.norm_epsilon);
      for (size_t i = 0; i < row.size(); ++i) {
        row[i] = (row[i] - mean) * scale * norm.weight[i] +
                 (norm.bias.empty() ? 0.0 : norm.bias[i]);
      }
    }
    return x;
  }

  // RMSNorm, whatever the norm of the block is.
  void NormHeads(const Norm& norm, Rows& x) const {
    const size_t d = static_cast<size_t>(spec_.head_dim);
    for (Vector& row : x) {
      for (size_t head = 0; head < row.size(); head += d) {
        double squares = 0;
        for (size_t i = 0; i < d; ++i) squares += row[head + i] * row[head + i];
        const double rms =
            std::sqrt(squares / static_cast<double>(d) + spec_.norm_epsilon);
        for (size_t i = 0; i < d; ++i) row[head + i] *= norm.weight[i] / rms;
      }
    }
  }

  void Clip(Rows& x) const {
    if (spec_.clip_qkv <= 0) return;
    for (Vector& row : x) {
      for (double& v : row) v = std::clamp(v, -spec_.clip_qkv, spec_.clip_qkv);
    }
  }

  void Rotate(Rows& x) const {
    const Vector frequencies = RopeFrequencies(spec_);
    const size_t half = frequencies.size();
    for (size_t position = 0; position < x.size(); ++position) {
      Vector& row = x[position];
      for (size_t head = 0; head < row.size(); head += 2 * half) {
        for (size_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(position) * frequencies[i];
          const double a = row[head + i], b = row[head + i + half];
          row[head + i] = a * std::cos(angle) - b * std::sin(angle);
          row[head + i + half] = b * std::cos(angle) + a * std::sin(angle);
        }
      }
    }
  }

  Rows Attention(const Rows& q, const Rows& k, const Rows& v) const {
    const size_t d = static_cast<size_t>(spec_.head_dim);
    const size_t heads = static_cast<size_t>(spec_.num_heads);
    const size_t group =
        static_cast<size_t>(spec_.num_heads / spec_.num_kv_heads);
    const Vector slopes = spec_.position == PositionKind::kAlibi
                              ? AlibiSlopes(spec_)
                              : Vector(heads);
    Rows out(q.size(), Vector(heads * d));
    for (size_t h = 0; h < heads; ++h) {
      const size_t g = h / group * d;
      for (size_t i = 0; i < q.size(); ++i) {
        Vector weights(i + 1);
        double total = 0;
        for (size_t j = 0; j <= i; ++j) {
          if (spec_.sliding_window > 0 &&
              static_cast<int64_t>(i - j) >= spec_.sliding_window) {
            continue;
          }
          double score = 0;
          for (size_t e = 0; e < d; ++e) score += q[i][h * d + e] * k[j][g + e];
          weights[j] = std::exp(spec_.attention_scale * score -
                                slopes[h] * static_cast<double>(i - j));
          total += weights[j];
        }
        for (size_t j = 0; j <= i; ++j) {
          for (size_t e = 0; e < d; ++e) {
            out[i][h * d + e] += weights[j] / total * v[j][g + e];
          }
        }
      }
    }
    return out;
  }

  const TransformerSpec& spec_;
  const std::vector<int64_t>& lengths_;
  Norm attention_norm_, ffn_norm_, q_norm_, k_norm_;
  Linear q_, k_, v_, o_, gate_, up_, down_;
  Rows x_;
};

}  // namespace

std::vector<double> FiniteDifferences(const DoubleFunction& f,
                                      std::vector<double> x) {
  const double h = std::ldexp(1.0, -17);
  std::vector<double> gradient;
  for (double& element : x) {
    const double value = element;
    element = value + h;
    const double above = f(x);
    element = value - h;
    const double below = f(x);
    element = value;
    gradient.push_back((above - below) / (2 * h));
  }
  return gradient;
}

double RelativeDistance(absl::Span<const float> a, absl::Span<const double> b) {
  QEFF_CHECK(a.size() == b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return difference == 0 ? 0.0 : std::sqrt(difference / norm);
}

std::vector<double> ToDouble(absl::Span<const float> values) {
  return std::vector<double>(values.begin(), values.end());
}

Matrix<float> RandomMatrix(int64_t rows, int64_t cols, uint64_t stream,
                           float deviation, float mean) {
  Matrix<float> matrix(rows, cols);
  const Random random(/*seed=*/23, stream);
  for (size_t i = 0; i < matrix.span().size(); ++i) {
    matrix.data()[i] = mean + deviation * random.NormalAt(i);
  }
  return matrix;
}

std::vector<NamedPart> PartsOf(BlockWeights& weights) {
  std::vector<NamedPart> parts;
  const auto add = [&](const std::string& name, absl::Span<float> values) {
    if (!values.empty()) parts.push_back({name, values});
  };
  const auto norm = [&](const std::string& name, NormWeights& n) {
    add(name + ".weight", absl::MakeSpan(n.weight));
    add(name + ".bias", absl::MakeSpan(n.bias));
  };
  const auto linear = [&](const std::string& name, LinearWeights& l) {
    add(name + ".weight", l.weight.span());
    add(name + ".bias", absl::MakeSpan(l.bias));
  };
  norm("attention_norm", weights.attention_norm);
  norm("ffn_norm", weights.ffn_norm);
  norm("q_norm", weights.q_norm);
  norm("k_norm", weights.k_norm);
  linear("q", weights.q);
  linear("k", weights.k);
  linear("v", weights.v);
  linear("o", weights.o);
  linear("gate", weights.gate);
  linear("up", weights.up);
  linear("down", weights.down);
  return parts;
}

BlockWeights RandomBlockWeights(const TransformerSpec& spec) {
  uint64_t stream = 100;
  const auto vector = [&](int64_t size, bool there, float mean) {
    const Matrix<float> m =
        RandomMatrix(1, there ? size : 0, ++stream, 0.2f, mean);
    return std::vector<float>(m.span().begin(), m.span().end());
  };
  const auto linear = [&](int64_t out, int64_t in, bool bias) {
    const float deviation =
        1.0f / std::sqrt(static_cast<float>(in));  // results of about 1
    return LinearWeights{RandomMatrix(out, in, ++stream, deviation),
                         vector(out, bias, 0.0f)};
  };
  const int64_t h = spec.hidden_size, q = spec.q_size(), kv = spec.kv_size();
  BlockWeights weights;
  for (NormWeights* norm : {&weights.attention_norm, &weights.ffn_norm}) {
    *norm = {vector(h, true, 1.0f), vector(h, spec.norm_bias, 0.0f)};
  }
  for (NormWeights* norm : {&weights.q_norm, &weights.k_norm}) {
    *norm = {vector(spec.head_dim, spec.qk_norm, 1.0f), {}};
  }
  weights.q = linear(q, h, spec.qkv_bias);
  weights.k = linear(kv, h, spec.qkv_bias);
  weights.v = linear(kv, h, spec.qkv_bias);
  weights.o = linear(h, q, spec.attention_output_bias);
  if (spec.gated_ffn) {
    weights.gate = linear(spec.ffn_size, h, spec.ffn_bias);
  }
  weights.up = linear(spec.ffn_size, h, spec.ffn_bias);
  weights.down = linear(h, spec.ffn_size, spec.ffn_bias);
  return weights;
}

std::vector<double> ReferenceBlock(const TransformerSpec& spec,
                                   const std::vector<int64_t>& lengths,
                                   const std::vector<double>& values) {
  return Block(spec, lengths, values).Run();
}

}  // namespace qeff
