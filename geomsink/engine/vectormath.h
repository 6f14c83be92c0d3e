// Elementary functions that a compiler can inline and vectorise: no tables, no calls, no branches.
//
// The generated reductions live in this namespace, so that the unqualified exp(...), log(...),
// powf(...) and atan2(...) of a KeOps formula find these overloads; everything else (sqrt, ...) is
// libm's. Strict IEEE arithmetic is enough: no -ffast-math, and so no flushed denormals.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <math.h>  // puts sqrt, sin, ... of both precisions where the formulas look for them

namespace geomsink {

template <typename T>
static inline T abs(T x) {
    return std::fabs(x);
}

// 2^k for an integer-valued k in the normal range, through the exponent bits.
static inline float exp2i(float k) {
    int32_t bits = ((int32_t)k + 127) << 23;
    float r;
    std::memcpy(&r, &bits, sizeof r);
    return r;
}
static inline double exp2i(double k) {
    int64_t bits = ((int64_t)(int32_t)k + 1023) << 52;
    double r;
    std::memcpy(&r, &bits, sizeof r);
    return r;
}

// exp: Cody-Waite reduction to |r| <= ln(2)/2, then the Taylor polynomial; 2 ulp. Arguments are clamped
// to the normal range: exp(-inf) is 1e-38 (2e-308 in double) and exp(inf) is 2e38, both far outside of
// what the solver accepts as a row sum.
// The bounds are variables, because GCC turns constant ones into compares and blends in place of max and min.
float lowest_f = -87.0f, highest_f = 88.0f;
double lowest = -708.0, highest = 709.0;

static inline float exp(float x) {
    x = x < lowest_f ? lowest_f : x;
    x = x > highest_f ? highest_f : x;
    float k = std::rint(x * 1.44269504088896341f);
    float r = x - k * 0.693359375f;
    r = r + k * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * exp2i(k);
}
static inline double exp(double x) {
    x = x < lowest ? lowest : x;
    x = x > highest ? highest : x;
    double k = std::rint(x * 1.44269504088896338700);
    double r = x - k * 6.93145751953125e-1;
    r = r - k * 1.42860682030941723212e-6;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * exp2i(k);
}

// log: x = 2^k m with m in [sqrt(1/2), sqrt(2)), then 2 artanh((m - 1) / (m + 1)) by its series.
static inline float log(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    int32_t k = (bits - 0x3f3504f3) >> 23;
    bits -= k << 23;
    float m;
    std::memcpy(&m, &bits, sizeof m);
    float s = (m - 1.0f) / (m + 1.0f), q = s * s;
    float p = 2.0f / 11;
    p = p * q + 2.0f / 9;
    p = p * q + 2.0f / 7;
    p = p * q + 2.0f / 5;
    p = p * q + 2.0f / 3;
    p = p * q + 2.0f;
    return p * s + (float)k * 0.693147180559945309f;
}
static inline double log(double x) {
    int64_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    int32_t k = (int32_t)((uint64_t)(bits - 0x3fe6a09e667f3bcdLL) >> 52);
    k = (int32_t)((uint32_t)k << 20) >> 20;  // the sign of the 12-bit exponent difference
    bits -= (int64_t)k << 52;
    double m;
    std::memcpy(&m, &bits, sizeof m);
    double s = (m - 1.0) / (m + 1.0), q = s * s;
    double p = 2.0 / 23;
    p = p * q + 2.0 / 21;
    p = p * q + 2.0 / 19;
    p = p * q + 2.0 / 17;
    p = p * q + 2.0 / 15;
    p = p * q + 2.0 / 13;
    p = p * q + 2.0 / 11;
    p = p * q + 2.0 / 9;
    p = p * q + 2.0 / 7;
    p = p * q + 2.0 / 5;
    p = p * q + 2.0 / 3;
    p = p * q + 2.0;
    return p * s + (double)k * 0.693147180559945309417;
}

// x^y for x >= 0, which is all that a cost needs.
template <typename T>
static inline T powf(T x, T y) {
    return exp(y * log(x)) * (T)(x > T(0));  // a product, since a branch around exp would not vectorise
}

// 1 / sqrt(x), and 0 at 0, where derivatives of distances have it.
template <typename T>
static inline T inverse_root(T x) {
    return (T)(x > T(0)) / std::sqrt(x + (T)(x <= T(0)));
}

// atan2 for y >= 0 and x >= 0 (an angle between chords): three half-angle steps, free of branches, bring
// the tangent below tan(pi / 16), where the series is short.
template <typename T>
static inline T atan2(T y, T x) {
    T t = y / (std::sqrt(x * x + y * y) + x + T(1e-37));
    t = t / (T(1) + std::sqrt(T(1) + t * t));
    t = t / (T(1) + std::sqrt(T(1) + t * t));
    T q = t * t, p = T(-1) / 23;
    p = p * q + T(1) / 21;
    p = p * q - T(1) / 19;
    p = p * q + T(1) / 17;
    p = p * q - T(1) / 15;
    p = p * q + T(1) / 13;
    p = p * q - T(1) / 11;
    p = p * q + T(1) / 9;
    p = p * q - T(1) / 7;
    p = p * q + T(1) / 5;
    p = p * q - T(1) / 3;
    p = p * q + T(1);
    return T(8) * p * t;
}

}  // namespace geomsink
