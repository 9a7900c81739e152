extension Network {
    /// Runs the network operation by operation, as `ModelFile.md` §4 defines it.
    ///
    /// - Parameters:
    ///   - latents: The input, `inputChannels` channels, Int16 range; clamped here.
    ///   - observe: Called with the number and the output of every operation.
    /// - Returns: The result, `outputChannels` channels, Int16 range.
    package func reference(
        _ latents: IntegerTensor,
        observe: (_ operation: Int, _ output: IntegerTensor) -> Void = { _, _ in }
    ) -> IntegerTensor {
        let clamped = latents.mapValues { value, _ in
            min(max(value, -Self.latentBound), Self.latentBound)
        }
        var values = [clamped]
        for (index, operation) in operations.enumerated() {
            let output =
                switch operation {
                case .convolution(let convolution, let input):
                    convolve(values[input], convolution)
                case .requantise(let input, let shift, let multiplier, let type):
                    values[input].mapValues { sum, channel in
                        let scaled = scale(saturated(sum >> Int32(shift)), multiplier[channel])
                        return type == .uint8 ? min(max(scaled, 0), 255) : scaled
                    }
                case .rescale(let input, let multiplier):
                    values[input].mapValues { value, channel in
                        min(max(scale(value, multiplier[channel]), 0), 255)
                    }
                case .add(let input, let other):
                    sum(values[input], values[other])
                case .round(let input, let bits):
                    values[input].mapValues { value, _ in
                        (value + Int32(1) << Int32(bits - 1)) >> Int32(bits)
                    }
                case .concat(let inputs):
                    inputs.dropFirst().reduce(values[inputs[0]]) { $0.joining(values[$1]) }
                }
            values.append(output)
            observe(index, output)
        }
        return values[values.count - 1]
    }
}

/// Returns the nearest value of Int16.
private func saturated(_ value: Int32) -> Int32 {
    min(max(value, Int32(Int16.min)), Int32(Int16.max))
}

/// Returns `value · multiplier / 2^15`, rounded half up; `value` is in the range of Int16.
private func scale(_ value: Int32, _ multiplier: Int16) -> Int32 {
    (value * Int32(multiplier) + 1 << 14) >> 15
}

/// Returns the saturating sum of two tensors of Int16 values.
private func sum(_ first: IntegerTensor, _ second: IntegerTensor) -> IntegerTensor {
    var result = first
    for position in 0..<first.positions {
        for channel in 0..<first.channels {
            result[position, channel] = saturated(
                first[position, channel] + second[position, channel]
            )
        }
    }
    return result
}

/// Returns the exact sums of a convolution; positions outside the image count as zero.
private func convolve(_ input: IntegerTensor, _ layer: Convolution) -> IntegerTensor {
    let side = layer.kernelSize
    let border = side / 2
    var result = IntegerTensor(
        count: input.count,
        height: input.height,
        width: input.width,
        channels: layer.outputChannels
    )
    for image in 0..<input.count {
        for y in 0..<input.height {
            for x in 0..<input.width {
                let to = result.position(image, y, x)
                for output in 0..<layer.outputChannels { result[to, output] = layer.bias[output] }
                for dy in 0..<side {
                    for dx in 0..<side {
                        let (row, column) = (y + dy - border, x + dx - border)
                        guard (0..<input.height).contains(row), (0..<input.width).contains(column)
                        else { continue }
                        let from = input.position(image, row, column)
                        let tap = dy * side + dx
                        for output in 0..<layer.outputChannels {
                            var sum: Int32 = 0
                            for channel in 0..<layer.inputChannels {
                                let index = output * layer.inputChannels + channel
                                let weight = layer.weights[index * side * side + tap]
                                sum += input[from, channel] * Int32(weight)
                            }
                            result[to, output] += sum
                        }
                    }
                }
            }
        }
    }
    return result
}
